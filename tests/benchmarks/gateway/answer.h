/* Reads one HTTP/1.1 answer as its bytes arrive: status, framing, and the events of an SSE stream. */
#ifndef ANSWER_H
#define ANSWER_H

#include <stdbool.h>
#include <stddef.h>

enum where { HEAD, SIZED, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, UNTIL_CLOSE, COMPLETE, MALFORMED };

struct answer {
    enum where where;
    char head[8192]; /* the head, then each line of a stream */
    size_t length;
    size_t left;    /* bytes of the body or the HTTP chunk still to come */
    int status;     /* 0 until the head is complete */
    bool events;    /* the body is text/event-stream */
    bool done;      /* data: [DONE] came */
    bool data_seen; /* the event that is being read has data */
    bool failed;    /* an event with an error object came */
    long count;     /* events with data so far, [DONE] not counted */
    long tokens;    /* completion_tokens of the last usage seen */
};

/* Make ready for the next answer. */
void answer_begin(struct answer *answer);
/* Take bytes; answer->where tells how far it is (COMPLETE, MALFORMED or in between). */
void answer_feed(struct answer *answer, const char *bytes, size_t length);
/* The connection was closed: completes an answer that lasts until then. */
void answer_closed(struct answer *answer);

#endif
