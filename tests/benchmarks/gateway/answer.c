#define _GNU_SOURCE
#include "answer.h"

#include <stdlib.h>
#include <string.h>

void answer_begin(struct answer *answer)
{
    answer->where = HEAD;
    answer->length = answer->left = 0;
    answer->status = 0;
    answer->events = answer->done = answer->data_seen = answer->failed = false;
    answer->count = answer->tokens = 0;
}

/* ---- the events ---- */

static void event_line(struct answer *answer)
{
    char *line = answer->head;
    if (answer->length > 0 && line[answer->length - 1] == '\r')
        answer->length--;
    line[answer->length] = '\0';
    if (answer->length == 0) {
        answer->count += answer->data_seen;
        answer->data_seen = false;
    } else if (strncmp(line, "data: [DONE]", 12) == 0) {
        answer->done = true;
    } else if (strncmp(line, "data:", 5) == 0) {
        answer->data_seen = true;
        char *usage = strstr(line, "\"usage\":{");
        char *tokens = usage != NULL ? strstr(usage, "\"completion_tokens\":") : NULL;
        if (tokens != NULL)
            answer->tokens = strtol(tokens + 20, NULL, 10);
        if (strstr(line, "\"error\":") != NULL)
            answer->failed = true;
    }
    answer->length = 0;
}

static void body_bytes(struct answer *answer, const char *bytes, size_t length)
{
    if (!answer->events)
        return;
    while (length > 0) {
        const char *end = memchr(bytes, '\n', length);
        size_t part = end != NULL ? (size_t)(end - bytes) : length;
        size_t room = sizeof answer->head - 1 - answer->length;
        memcpy(answer->head + answer->length, bytes, part < room ? part : room); /* a longer line is cut */
        answer->length += part < room ? part : room;
        if (end == NULL)
            return;
        event_line(answer);
        bytes += part + 1;
        length -= part + 1;
    }
}

/* ---- the framing ---- */

static void head_complete(struct answer *answer)
{
    answer->head[answer->length] = '\0';
    answer->status = answer->length > 12 ? atoi(answer->head + 9) : 0;
    answer->events = strcasestr(answer->head, "\ncontent-type: text/event-stream") != NULL;
    char *size = strcasestr(answer->head, "\ncontent-length:");
    if (strcasestr(answer->head, "\ntransfer-encoding: chunked") != NULL)
        answer->where = CHUNK_SIZE;
    else if (size != NULL)
        answer->where = (answer->left = strtoul(size + 16, NULL, 10)) > 0 ? SIZED : COMPLETE;
    else
        answer->where = UNTIL_CLOSE;
    answer->length = 0;
}

static size_t take_head(struct answer *answer, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (answer->length + 1 >= sizeof answer->head) {
            answer->where = MALFORMED;
            return length;
        }
        answer->head[answer->length++] = bytes[i];
        if (bytes[i] == '\n' && answer->length >= 4 && memcmp(answer->head + answer->length - 4, "\r\n\r\n", 4) == 0) {
            head_complete(answer);
            return i + 1;
        }
    }
    return length;
}

static size_t take_body(struct answer *answer, const char *bytes, size_t length)
{
    size_t part = length < answer->left ? length : answer->left;
    body_bytes(answer, bytes, part);
    answer->left -= part;
    if (answer->left == 0)
        answer->where = answer->where == SIZED ? COMPLETE : CHUNK_END;
    return part;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void take_size_byte(struct answer *answer, char c)
{
    if (digit(c) >= 0)
        answer->left = 16 * answer->left + (size_t)digit(c);
    else if (c == '\n')
        answer->where = answer->left > 0 ? CHUNK_DATA : TRAILER;
    else if (c != '\r')
        answer->where = MALFORMED; /* no router here writes chunk extensions */
}

static size_t take(struct answer *answer, const char *bytes, size_t length)
{
    switch (answer->where) {
    case HEAD:
        return take_head(answer, bytes, length);
    case SIZED:
    case CHUNK_DATA:
        return take_body(answer, bytes, length);
    case UNTIL_CLOSE:
        body_bytes(answer, bytes, length);
        return length;
    case CHUNK_SIZE:
        take_size_byte(answer, *bytes);
        return 1;
    case CHUNK_END:
        if (*bytes == '\n')
            answer->where = CHUNK_SIZE;
        return 1;
    case TRAILER: /* trailing headers are not written by any router here: the empty line ends it */
        if (*bytes == '\n')
            answer->where = COMPLETE;
        return 1;
    case COMPLETE: /* bytes after the end belong to no answer */
        answer->where = MALFORMED;
        return length;
    case MALFORMED:
        return length;
    }
    return length;
}

void answer_feed(struct answer *answer, const char *bytes, size_t length)
{
    while (length > 0) {
        size_t taken = take(answer, bytes, length);
        bytes += taken;
        length -= taken;
    }
}

void answer_closed(struct answer *answer)
{
    answer->where = answer->where == UNTIL_CLOSE ? COMPLETE : MALFORMED;
}
