/* One client of the load generator, and what all of them saw. */
#ifndef CLIENT_H
#define CLIENT_H

#include "answer.h"

#include <netinet/in.h>
#include <stdint.h>

#define MILLISECOND 1000000u
#define SECOND 1000000000u

struct client {
    int fd; /* -1 when closed */
    long number;
    bool busy; /* asked, and neither answered nor gone */
    uint64_t sent, last_event;
    long seen; /* events read so far */
    struct answer answer;
};

/* Times, in tenths of microseconds. */
struct series {
    uint32_t *tenths;
    size_t count, room;
};

extern struct tally {
    uint64_t window_start, window_end; /* times are recorded and answers counted only in between, ns */
    struct series latency, first, gap; /* to the end, to the first event, between events */
    long sent, completed, bad, broken; /* bad: not 200, an error event, or a stream without [DONE] */
    long counted, events_counted;      /* in the window */
    long events, tokens;
    long busy, most_busy, waiting_first;
    uint64_t first_sent, last_complete;
} tally;

/* Where to, and the bytes to send; the bytes may be changed between requests. */
void clients_begin(struct sockaddr_in to, const char *request, size_t length);
void open_client(struct client *client);
void close_client(struct client *client);
void ask(struct client *client);
/* The client awaits no answer any more. */
void rest(struct client *client);
/* Serve what comes within `wait_ms`. `ended` is called for each client whose answer ended, well or not; `each`, if
   there is one, for each other client that received something. */
void turn(int wait_ms, void (*ended)(struct client *), void (*each)(struct client *));
/* The tally as the members of a JSON object, without its braces. */
void print_tally(void);

uint64_t now_ns(void);
void die(const char *what);

#endif
