/* A stub engine: answers as vLLM's OpenAI server would, fast enough not to be what is measured.

   Pretends to be: one vLLM with a reasoning parser. POST /v1/chat/completions, streamed (one write() an event)
   or not; GET /v1/models, /health, /version. Keep-alive, HTTP/1.1 with Content-Length.
   Is not: a JSON or HTTP validator; it reads no chunked request bodies, ignores the prompt and never refuses.

       stub MODEL...        listens on a free port of 127.0.0.1 and prints it

   `seed` in a request is the pause in microseconds between two chunks (or before an answer that is not streamed),
   `max_tokens` the number of chunks, `stop` the request's name in GET /aborts (a field that every router passes
   on). /aborts tells when (CLOCK_MONOTONIC, nanoseconds) the connection of a request was closed before its answer
   was complete: the moment at which a real engine would abort the request. The schedule of a stream is absolute:
   a late chunk does not delay those after it. */
#define _GNU_SOURCE
#include "schedule.h"
#include "stub.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define LARGEST_REQUEST (1 << 20)

struct connection {
    struct waiter wait; /* for the next part of the answer */
    int fd;
    char *in; /* the request so far, NUL-terminated */
    size_t in_length, in_room;
    char *out; /* what the socket did not take; while there is some, nothing more is made */
    size_t out_length;
    bool answering, dead;
    struct wish wish;
    unsigned long number;
    long at; /* next part of the stream */
    struct connection *next_dead;
};

struct abort_note {
    char name[NAME_MAX_LENGTH + 1];
    uint64_t at;
};

static int epoll_fd, timer_fd, listen_fd;
static char **model_names;
static int model_count;
static struct connection *dead_list;
static struct abort_note *aborts;
static size_t abort_count, abort_room;
static unsigned long begun, completed, open_now, open_most;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void *grown(void *memory, size_t size)
{
    memory = realloc(memory, size);
    if (memory == NULL)
        die("stub: realloc");
    return memory;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- writing ---- */

static void watch(struct connection *connection, bool writable)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (writable ? EPOLLOUT : 0), .data.ptr = connection};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
}

static void send_text(struct connection *connection, struct text text)
{
    ssize_t sent = send(connection->fd, text.bytes, text.length, MSG_NOSIGNAL);
    size_t taken = sent > 0 ? (size_t)sent : 0;
    if (taken == text.length || (sent < 0 && errno != EAGAIN))
        return; /* an error shows as EPOLLHUP */
    connection->out_length = text.length - taken;
    connection->out = grown(connection->out, connection->out_length);
    memcpy(connection->out, text.bytes + taken, connection->out_length);
    watch(connection, true);
}

static void finish(struct connection *connection)
{
    connection->answering = false;
    completed++;
    open_now--;
}

/* Send what is due of the answer; leave the connection waiting if more is to come. */
static void continue_answer(struct connection *connection)
{
    bool last = true;
    if (!connection->wish.stream) {
        send_text(connection, whole_answer(&connection->wish, connection->number));
        finish(connection);
        return;
    }
    send_text(connection, stream_part(&connection->wish, connection->number, connection->at, &last));
    if (last) {
        finish(connection);
        return;
    }
    /* The role goes out with the first token; finish and the end follow the last token at once, as in vLLM. */
    long at = connection->at++;
    if (at > 0 && at < connection->wish.chunks)
        connection->wait.due += (uint64_t)connection->wish.pause_us * 1000;
    if (connection->out_length == 0)
        wait_until_due(&connection->wait);
}

static void flush(struct connection *connection)
{
    ssize_t sent = send(connection->fd, connection->out, connection->out_length, MSG_NOSIGNAL);
    if (sent <= 0)
        return;
    connection->out_length -= (size_t)sent;
    memmove(connection->out, connection->out + sent, connection->out_length);
    if (connection->out_length > 0)
        return;
    watch(connection, false);
    if (connection->answering)
        wait_until_due(&connection->wait);
}

/* ---- requests ---- */

static void tell_aborts(struct connection *connection)
{
    char *json = grown(NULL, 256 + abort_count * (NAME_MAX_LENGTH + 32));
    int at = sprintf(json, "{\"begun\":%lu,\"completed\":%lu,\"open\":%lu,\"most_open\":%lu,\"aborted\":[", begun,
                     completed, open_now, open_most);
    for (size_t i = 0; i < abort_count; i++)
        at += sprintf(json + at, "%s[\"%s\",%llu]", i ? "," : "", aborts[i].name, (unsigned long long)aborts[i].at);
    at += sprintf(json + at, "]}");
    char head[128];
    int length = sprintf(head, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n", at);
    json = grown(json, (size_t)(at + length));
    memmove(json + length, json, (size_t)at);
    memcpy(json, head, (size_t)length);
    send_text(connection, (struct text){json, (size_t)(at + length)});
    free(json);
}

static void begin_answer(struct connection *connection, const char *body)
{
    connection->wish = read_wish(body);
    connection->number = ++begun;
    connection->at = 0;
    connection->answering = true;
    connection->wait.due = now_ns();
    if (++open_now > open_most)
        open_most = open_now;
    if (connection->wish.stream || connection->wish.pause_us == 0) {
        continue_answer(connection);
        return;
    }
    connection->wait.due += (uint64_t)connection->wish.pause_us * 1000;
    wait_until_due(&connection->wait);
}

static bool begins(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static void answer_get(struct connection *connection, const char *request)
{
    static const char VERSION[] = "{\"version\":\"0.33.0\"}";
    if (begins(request, "GET /v1/models "))
        send_text(connection, models_answer(model_names, model_count));
    else if (begins(request, "GET /aborts "))
        tell_aborts(connection);
    else if (begins(request, "GET /version "))
        send_text(connection, json_answer(VERSION, sizeof VERSION - 1));
    else if (begins(request, "GET /health "))
        send_text(connection, json_answer("", 0));
    else
        send_text(connection, error_answer(404, "Not Found"));
}

/* Answer the request in the buffer if it is complete. */
static void try_request(struct connection *connection)
{
    char *end = strstr(connection->in, "\r\n\r\n");
    if (end == NULL || connection->answering)
        return;
    char *length = strcasestr(connection->in, "\r\ncontent-length:");
    size_t head = (size_t)(end - connection->in) + 4;
    size_t body = length != NULL && length < end ? strtoul(length + 17, NULL, 10) : 0;
    if (connection->in_length < head + body)
        return;
    if (begins(connection->in, "POST /v1/chat/completions "))
        begin_answer(connection, connection->in + head);
    else if (begins(connection->in, "GET "))
        answer_get(connection, connection->in);
    else
        send_text(connection, error_answer(404, "Not Found"));
    connection->in_length -= head + body;
    memmove(connection->in, connection->in + head + body, connection->in_length + 1);
}

/* ---- connections ---- */

static void note_abort(struct connection *connection)
{
    if (abort_count == abort_room) {
        abort_room = abort_room ? 2 * abort_room : 256;
        aborts = grown(aborts, abort_room * sizeof *aborts);
    }
    memcpy(aborts[abort_count].name, connection->wish.name, sizeof connection->wish.name);
    aborts[abort_count++].at = now_ns();
    open_now--;
}

static void drop(struct connection *connection)
{
    if (connection->answering)
        note_abort(connection);
    wait_no_more(&connection->wait);
    close(connection->fd);
    connection->dead = true;
    connection->next_dead = dead_list; /* freed when no event of this turn can name it any more */
    dead_list = connection;
}

static void free_dead(void)
{
    while (dead_list != NULL) {
        struct connection *connection = dead_list;
        dead_list = connection->next_dead;
        free(connection->in);
        free(connection->out);
        free(connection);
    }
}

static void receive(struct connection *connection)
{
    if (connection->in_room < connection->in_length + 4096) {
        connection->in_room = connection->in_length + 4096;
        connection->in = grown(connection->in, connection->in_room + 1);
    }
    ssize_t got = recv(connection->fd, connection->in + connection->in_length,
                       connection->in_room - connection->in_length, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0 || connection->in_length > LARGEST_REQUEST) {
        drop(connection);
        return;
    }
    connection->in_length += (size_t)got;
    connection->in[connection->in_length] = '\0';
    try_request(connection);
}

static void accept_all(void)
{
    int fd, on = 1;
    while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *connection = grown(NULL, sizeof *connection);
        *connection = (struct connection){.fd = fd, .wait.place = NOT_WAITING};
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = connection};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
    if (errno == EMFILE)
        die("stub: accept (raise the limit of open files, ulimit -n)");
}

static void serve_connection(struct connection *connection, uint32_t events)
{
    if (connection->dead)
        return;
    if (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) {
        drop(connection);
        return;
    }
    if (events & EPOLLIN)
        receive(connection);
    if (!connection->dead && (events & EPOLLOUT))
        flush(connection);
}

/* Send all chunks that are due, then set the alarm for the next. */
static void serve_due(void)
{
    uint64_t now = now_ns();
    size_t most = waiting(); /* each connection once a turn, so that none starves the sockets */
    struct waiter *first;
    while ((first = first_due()) != NULL && first->due <= now && most-- > 0) {
        wait_no_more(first);
        continue_answer((struct connection *)first);
    }
    struct itimerspec alarm = {0};
    if (first != NULL) {
        alarm.it_value.tv_sec = (time_t)(first->due / 1000000000u);
        alarm.it_value.tv_nsec = (long)(first->due % 1000000000u);
    }
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &alarm, NULL);
}

static void listen_anywhere(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listen_fd < 0 || bind(listen_fd, (struct sockaddr *)&address, size) || listen(listen_fd, 4096) ||
        getsockname(listen_fd, (struct sockaddr *)&address, &size))
        die("stub: listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
}

static void add_to_epoll(int fd, void *mark)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = mark};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
        die("stub: epoll");
}

int main(int argc, char **argv)
{
    struct epoll_event events[512];
    model_names = argv + 1;
    model_count = argc - 1;
    signal(SIGPIPE, SIG_IGN);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    listen_anywhere();
    add_to_epoll(listen_fd, &listen_fd);
    add_to_epoll(timer_fd, &timer_fd);
    for (;;) {
        int count = epoll_wait(epoll_fd, events, 512, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &listen_fd)
                accept_all();
            else if (events[i].data.ptr != &timer_fd)
                serve_connection(events[i].data.ptr, events[i].events);
        }
        serve_due(); /* setting the alarm anew also clears one that rang */
        free_dead();
    }
}
