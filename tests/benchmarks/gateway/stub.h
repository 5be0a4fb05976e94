/* What the stub engine was asked, and the bytes of its answers. See stub.c for what it pretends to be. */
#ifndef STUB_H
#define STUB_H

#include <stdbool.h>
#include <stddef.h>

#define NAME_MAX_LENGTH 127

/* The fields of a request body that the stub heeds. */
struct wish {
    char model[NAME_MAX_LENGTH + 1]; /* echoed in the answer */
    char name[NAME_MAX_LENGTH + 1];  /* stop: what /aborts calls the request */
    bool stream;
    bool usage;      /* stream_options.include_usage: a usage event before [DONE] */
    bool continuous; /* stream_options.continuous_usage_stats: usage in every chunk */
    long chunks;     /* max_tokens or max_completion_tokens; one token a chunk; 128 where absent */
    long pause_us;   /* seed: microseconds between chunks, or before an answer that is not streamed; 0 where absent */
    long created;    /* seconds since 1970 */
};

/* The last answer bytes written, and how many. Valid until the next call of any of these functions. */
struct text {
    const char *bytes;
    size_t length;
};

struct wish read_wish(const char *body);
struct text error_answer(int status, const char *message);
struct text json_answer(const char *json, size_t length);
struct text models_answer(char *const *names, int count);
struct text whole_answer(const struct wish *wish, unsigned long number);
/* Part `at` of a stream: 0 is the head with the role, 1..chunks one token each, then finish, then the end
   (usage event if asked for, [DONE], last HTTP chunk). Sets *last on the end. */
struct text stream_part(const struct wish *wish, unsigned long number, long at, bool *last);

#endif
