#define _GNU_SOURCE
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct tally tally;

static int epoll_fd;
static struct sockaddr_in address;
static const char *request_bytes;
static size_t request_length;

void die(const char *what)
{
    perror(what);
    exit(1);
}

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

void clients_begin(struct sockaddr_in to, const char *request, size_t length)
{
    address = to;
    request_bytes = request;
    request_length = length;
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
}

/* ---- the tally ---- */

static bool in_window(uint64_t now)
{
    return now >= tally.window_start && now < tally.window_end;
}

static void record(struct series *series, uint64_t nanoseconds)
{
    if (series->count == series->room) {
        series->room = series->room ? 2 * series->room : 4096;
        series->tenths = realloc(series->tenths, series->room * sizeof *series->tenths);
        if (series->tenths == NULL)
            die("load: realloc");
    }
    uint64_t tenths = nanoseconds / 100;
    series->tenths[series->count++] = tenths > UINT32_MAX ? UINT32_MAX : (uint32_t)tenths;
}

static void note_events(struct client *client, uint64_t now)
{
    long fresh = client->answer.count - client->seen;
    if (fresh == 0)
        return;
    if (client->seen == 0)
        tally.waiting_first--;
    if (in_window(now)) {
        if (client->seen == 0)
            record(&tally.first, now - client->sent);
        else
            record(&tally.gap, now - client->last_event);
        for (long i = 1; i < fresh; i++)
            record(&tally.gap, 0); /* came in the same read */
        tally.events_counted += fresh;
    }
    client->seen += fresh;
    client->last_event = now;
    tally.events += fresh;
}

static void note_complete(struct client *client, uint64_t now)
{
    struct answer *answer = &client->answer;
    rest(client);
    tally.completed++;
    tally.tokens += answer->tokens;
    tally.last_complete = now;
    if (answer->status != 200 || answer->failed || (answer->events && !answer->done)) {
        tally.bad++;
    } else if (in_window(now)) {
        tally.counted++;
        record(&tally.latency, now - client->sent);
    }
}

static void note_broken(struct client *client)
{
    rest(client);
    tally.broken++;
    close_client(client);
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_series(const char *name, struct series *series)
{
    if (series->count == 0)
        return;
    qsort(series->tenths, series->count, sizeof *series->tenths, ascending);
    size_t last = series->count - 1;
    printf("\"%s\":{\"p50\":%.4f,\"p99\":%.4f,\"max\":%.4f,\"count\":%zu},", name, series->tenths[last / 2] / 1e4,
           series->tenths[(size_t)(0.99 * (double)last)] / 1e4, series->tenths[last] / 1e4, series->count);
}

void print_tally(void)
{
    double work = tally.completed > 0 ? (double)(tally.last_complete - tally.first_sent) / 1e9 : 0;
    print_series("latency", &tally.latency);
    print_series("first", &tally.first);
    print_series("gap", &tally.gap);
    printf("\"work_seconds\":%.4f,\"sent\":%ld,\"completed\":%ld,\"counted\":%ld,\"bad\":%ld,\"broken\":%ld,"
           "\"events\":%ld,\"events_counted\":%ld,\"tokens\":%ld,\"most_open\":%ld,\"unfinished\":%ld",
           work, tally.sent, tally.completed, tally.counted, tally.bad, tally.broken, tally.events,
           tally.events_counted, tally.tokens, tally.most_busy, tally.busy);
}

/* ---- one client ---- */

void open_client(struct client *client)
{
    int on = 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        die("load: socket (many streams need a higher limit of open files, ulimit -n)");
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address))
        die("load: connect");
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, client->fd, &event);
}

void close_client(struct client *client)
{
    close(client->fd);
    client->fd = -1;
}

void ask(struct client *client)
{
    answer_begin(&client->answer);
    client->seen = 0;
    client->busy = true;
    client->sent = now_ns();
    if (tally.sent++ == 0)
        tally.first_sent = client->sent;
    if (++tally.busy > tally.most_busy)
        tally.most_busy = tally.busy;
    tally.waiting_first++;
    /* A request of a few hundred bytes fits any socket buffer; an error shows at the next read. */
    if (send(client->fd, request_bytes, request_length, MSG_NOSIGNAL) < 0 && errno == EAGAIN)
        die("load: send");
}

void rest(struct client *client)
{
    client->busy = false;
    tally.busy--;
    if (client->seen == 0)
        tally.waiting_first--;
}

/* Read what came. True when the answer is complete or the connection broke. */
static bool receive(struct client *client)
{
    static char buffer[1 << 16];
    ssize_t got = recv(client->fd, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EAGAIN)
        return false;
    uint64_t now = now_ns();
    if (!client->busy) { /* the server closed an idle connection */
        close_client(client);
        return false;
    }
    if (got > 0)
        answer_feed(&client->answer, buffer, (size_t)got);
    else
        answer_closed(&client->answer);
    note_events(client, now);
    if (client->answer.where == MALFORMED)
        note_broken(client);
    else if (client->answer.where == COMPLETE)
        note_complete(client, now);
    else
        return false;
    if (client->fd >= 0 && got <= 0)
        close_client(client);
    return true;
}

void turn(int wait_ms, void (*ended)(struct client *), void (*each)(struct client *))
{
    struct epoll_event events[512];
    int count = epoll_wait(epoll_fd, events, 512, wait_ms);
    for (int i = 0; i < count; i++) {
        struct client *client = events[i].data.ptr;
        if (client->fd < 0)
            continue;
        if (receive(client))
            ended(client);
        else if (each != NULL && client->fd >= 0)
            each(client);
    }
}
