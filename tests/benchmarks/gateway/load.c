/* A load generator for chat completions: one epoll thread, one request a connection at a time.

       load MODE HOST PORT REQUEST_FILE NAME=VALUE...       prints one JSON object

   REQUEST_FILE holds the bytes of one HTTP/1.1 request, sent as they are. Modes, and what they need:
     closed  connections, seconds     each connection asks again when its answer is complete; with total=N until
                                      N requests were sent. The first warm=SECONDS (0.3) are not counted.
     burst   connections, total       `total` times: all connections ask at once, all answers are awaited
     leave   total, after_ms, every_ms  a new client each every_ms; it closes its connection after_ms after asking, or,
                                      streamed, at its third event. "00000000" in the request becomes its number
     hold    connections, seconds, after_ms  opens all streams (64 at a time wait for their first event; within
                                      `seconds`), reads them for another after_ms, then leaves. `unfinished` lived to
                                      the end; `silent` of these had no event for 5 s
   Times in the output are milliseconds, `left` nanoseconds of CLOCK_MONOTONIC; events are SSE events with data.
   Is not: a check of what the answers say, only of status, framing, [DONE] and error events. */
#define _GNU_SOURCE
#include "client.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GRACE (5 * (uint64_t)SECOND) /* how long answers may still come after the end */
#define OPENING_AT_ONCE 64
#define SILENCE (5 * (uint64_t)SECOND)
#define LARGEST_REQUEST (1 << 16)
#define TOO_MANY_BROKEN 1000

static struct {
    long connections, total, after_ms, every_ms;
    double seconds, warm;
} options = {.connections = 1, .total = 0, .after_ms = 40, .every_ms = 20, .seconds = 2, .warm = 0.3};

static char request[LARGEST_REQUEST];
static size_t request_length;
static struct client *clients;
static char *number_place; /* leave: where the client's number goes */
static uint64_t *left;     /* leave: when each client closed, 0 if its answer came first */

static void nothing(struct client *client)
{
    (void)client;
}

static void open_all(void)
{
    for (long i = 0; i < options.connections; i++)
        open_client(&clients[i]);
}

/* ---- modes ---- */

static void again(struct client *client)
{
    bool more = options.total > 0 ? tally.sent < options.total : now_ns() < tally.window_end;
    if (!more || tally.broken > TOO_MANY_BROKEN)
        return;
    if (client->fd < 0)
        open_client(client);
    ask(client);
}

static void closed(void)
{
    open_all();
    tally.window_start = now_ns() + (uint64_t)(options.warm * SECOND);
    tally.window_end = tally.window_start + (uint64_t)(options.seconds * SECOND);
    for (long i = 0; i < options.connections; i++)
        again(&clients[i]);
    while (tally.busy > 0 && now_ns() < tally.window_end + GRACE)
        turn(100, again, NULL);
}

static void burst(void)
{
    open_all();
    tally.window_end = UINT64_MAX;
    for (long round = 0; round < options.total; round++) {
        for (long i = 0; i < options.connections; i++) {
            if (clients[i].fd < 0)
                open_client(&clients[i]);
            ask(&clients[i]);
        }
        uint64_t limit = now_ns() + GRACE;
        while (tally.busy > 0 && now_ns() < limit)
            turn(100, nothing, NULL);
        if (tally.busy > 0)
            return; /* told by `unfinished` */
        usleep(20000);
    }
}

static void leave_now(struct client *client)
{
    rest(client);
    left[client->number] = now_ns();
    close_client(client);
}

static void leave_at_third_event(struct client *client)
{
    if (client->seen >= 3)
        leave_now(client);
}

static void arrive(struct client *client)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%08ld", client->number);
    memcpy(number_place, digits, 8);
    open_client(client);
    ask(client);
}

static void leave_when_due(long arrived, uint64_t now)
{
    uint64_t stay = (uint64_t)options.after_ms * MILLISECOND;
    for (long i = 0; i < arrived; i++)
        if (clients[i].busy && !clients[i].answer.events && now >= clients[i].sent + stay)
            leave_now(&clients[i]);
}

static void leave(void)
{
    uint64_t start = now_ns(), step = (uint64_t)options.every_ms * MILLISECOND;
    uint64_t limit = start + step * (uint64_t)options.total + GRACE;
    long next = 0;
    while ((next < options.total || tally.busy > 0) && now_ns() < limit) {
        if (next < options.total && now_ns() >= start + step * (uint64_t)next) {
            clients[next].number = next;
            arrive(&clients[next++]);
        }
        turn(1, nothing, leave_at_third_event);
        leave_when_due(next, now_ns());
    }
}

static void hold(void)
{
    uint64_t limit = now_ns() + (uint64_t)(options.seconds * SECOND);
    tally.window_end = UINT64_MAX;
    for (long next = 0; (next < options.connections || tally.waiting_first > 0) && now_ns() < limit;) {
        bool opening = next < options.connections && tally.waiting_first < OPENING_AT_ONCE;
        if (opening) {
            open_client(&clients[next]);
            ask(&clients[next++]);
        }
        turn(opening ? 0 : 20, nothing, NULL);
    }
    limit = now_ns() + (uint64_t)options.after_ms * MILLISECOND;
    while (tally.busy > 0 && now_ns() < limit)
        turn(20, nothing, NULL);
}

/* ---- start and end ---- */

static void read_request(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        die(path);
    request_length = fread(request, 1, sizeof request, file);
    fclose(file);
}

static void read_option(const char *argument)
{
    const char *value = strchr(argument, '=');
    struct {
        const char *name;
        long *whole;
        double *real;
    } known[] = {{"connections", &options.connections, NULL}, {"total", &options.total, NULL},
                 {"after_ms", &options.after_ms, NULL},       {"every_ms", &options.every_ms, NULL},
                 {"seconds", NULL, &options.seconds},         {"warm", NULL, &options.warm}};
    for (size_t i = 0; value != NULL && i < sizeof known / sizeof *known; i++) {
        size_t length = strlen(known[i].name);
        if ((size_t)(value - argument) != length || strncmp(argument, known[i].name, length) != 0)
            continue;
        if (known[i].whole != NULL)
            *known[i].whole = atol(value + 1);
        else
            *known[i].real = atof(value + 1);
        return;
    }
    fprintf(stderr, "load: unknown option %s; see the top of load.c\n", argument);
    exit(2);
}

static void make_clients(bool leaving)
{
    long count = leaving ? options.total : options.connections;
    clients = calloc((size_t)count + 1, sizeof *clients);
    left = leaving ? calloc((size_t)count + 1, sizeof *left) : NULL;
    number_place = memmem(request, request_length, "00000000", 8);
    if (clients == NULL || (leaving && (left == NULL || number_place == NULL)))
        die("load: no memory, or no 00000000 in the request");
    for (long i = 0; i < count; i++)
        clients[i].fd = -1;
}

static long silent(void)
{
    long count = 0;
    uint64_t now = now_ns();
    for (long i = 0; left == NULL && i < options.connections; i++)
        count += clients[i].busy && clients[i].last_event + SILENCE < now;
    return count;
}

static void print_result(void)
{
    printf("{\"seconds\":%.3f,\"silent\":%ld,", options.seconds, silent());
    print_tally();
    for (long i = 0; left != NULL && i < options.total; i++)
        printf("%s%llu", i ? "," : ",\"left\":[", (unsigned long long)left[i]);
    printf(left != NULL ? "]}\n" : "}\n");
}

static void (*mode_named(const char *name))(void)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } modes[] = {{"closed", closed}, {"burst", burst}, {"leave", leave}, {"hold", hold}};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(name, modes[i].name) == 0)
            return modes[i].run;
    fputs("usage: load closed|burst|leave|hold HOST PORT REQUEST_FILE NAME=VALUE...\n", stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    void (*run)(void) = mode_named(argc < 5 ? "" : argv[1]);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[3]))};
    for (int i = 5; i < argc; i++)
        read_option(argv[i]);
    if (inet_pton(AF_INET, argv[2], &to.sin_addr) != 1)
        die("load: the host is given as an IPv4 address");
    read_request(argv[4]);
    make_clients(run == leave);
    signal(SIGPIPE, SIG_IGN);
    clients_begin(to, request, request_length);
    run();
    print_result();
}
