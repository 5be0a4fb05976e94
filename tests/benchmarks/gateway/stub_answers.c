/* The stub's JSON, in the shape of vLLM's OpenAI server: field names and their order as vLLM writes them.
   Not a JSON parser: a field is the first `"name":` in the body, so prompts must not contain such text. */
#include "stub.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PROMPT_TOKENS 48L

static char text_buffer[1 << 16];
static char json_buffer[1 << 15];
static const char *const WORDS[] = {" so",  " we",   " take", " seven", " from", " the",  " sum", " and",
                                    " that", " gives", " us",  " nine",  " which", " is", " less", " than"};

static struct text written(int length)
{
    if (length < 0 || (size_t)length >= sizeof text_buffer) {
        fputs("stub: an answer does not fit its buffer\n", stderr);
        exit(1);
    }
    return (struct text){text_buffer, (size_t)length};
}

/* ---- requests ---- */

static const char *value_of(const char *body, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *found = strstr(body, key);
    if (found == NULL)
        return NULL;
    found += strlen(key);
    return found + strspn(found, " \t\r\n");
}

static bool is_true(const char *body, const char *name)
{
    const char *value = value_of(body, name);
    return value != NULL && strncmp(value, "true", 4) == 0;
}

static long number_of(const char *body, const char *name, long otherwise)
{
    const char *value = value_of(body, name);
    return value != NULL && ((*value >= '0' && *value <= '9')) ? strtol(value, NULL, 10) : otherwise;
}

static void copy_string(char *into, const char *body, const char *name)
{
    const char *value = value_of(body, name);
    if (value != NULL && *value == '[') /* `stop` may be a list: its first string */
        value++;
    size_t length = value != NULL && *value == '"' ? strcspn(value + 1, "\"\\") : 0;
    if (length > NAME_MAX_LENGTH)
        length = NAME_MAX_LENGTH;
    memcpy(into, length ? value + 1 : "", length);
    into[length] = '\0';
}

struct wish read_wish(const char *body)
{
    struct wish wish = {.stream = is_true(body, "stream"),
                        .usage = is_true(body, "include_usage"),
                        .continuous = is_true(body, "continuous_usage_stats"),
                        .chunks = number_of(body, "max_tokens", number_of(body, "max_completion_tokens", 128)),
                        .pause_us = number_of(body, "seed", 0),
                        .created = (long)time(NULL)};
    copy_string(wish.model, body, "model");
    copy_string(wish.name, body, "stop");
    return wish;
}

/* ---- answers ---- */

struct text error_answer(int status, const char *message)
{
    int length = snprintf(json_buffer, sizeof json_buffer,
                          "{\"error\":{\"message\":\"%s\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":%d}}",
                          message, status);
    return written(snprintf(text_buffer, sizeof text_buffer,
                            "HTTP/1.1 %d Error\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
                            status, length, json_buffer));
}

struct text json_answer(const char *json, size_t length)
{
    return written(snprintf(text_buffer, sizeof text_buffer,
                            "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: %zu\r\n"
                            "content-type: application/json\r\n\r\n%.*s",
                            length, (int)length, json));
}

struct text models_answer(char *const *names, int count)
{
    int at = snprintf(json_buffer, sizeof json_buffer, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < count; i++)
        at += snprintf(json_buffer + at, sizeof json_buffer - (size_t)at,
                       "%s{\"id\":\"%s\",\"object\":\"model\",\"created\":%ld,\"owned_by\":\"vllm\",\"root\":\"%s\","
                       "\"parent\":null,\"max_model_len\":4096,\"permission\":[]}",
                       i ? "," : "", names[i], (long)time(NULL), names[i]);
    at += snprintf(json_buffer + at, sizeof json_buffer - (size_t)at, "]}");
    return json_answer(json_buffer, (size_t)at);
}

static int usage_json(char *into, size_t room, long tokens, long reasoning)
{
    return snprintf(into, room,
                    "\"usage\":{\"prompt_tokens\":%ld,\"total_tokens\":%ld,\"completion_tokens\":%ld,"
                    "\"prompt_tokens_details\":null,\"completion_tokens_details\":{\"reasoning_tokens\":%ld}}",
                    PROMPT_TOKENS, PROMPT_TOKENS + tokens, tokens, reasoning);
}

struct text whole_answer(const struct wish *wish, unsigned long number)
{
    char usage[256];
    usage_json(usage, sizeof usage, wish->chunks, wish->chunks / 2);
    int length = snprintf(
        json_buffer, sizeof json_buffer,
        "{\"id\":\"chatcmpl-%032lx\",\"object\":\"chat.completion\",\"created\":%ld,\"model\":\"%s\",\"choices\":"
        "[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"The answer is \\\\boxed{%lu}.\",\"refusal\":null,"
        "\"annotations\":null,\"audio\":null,\"function_call\":null,\"tool_calls\":[],\"reasoning\":\"First we add the "
        "two numbers, then we take the third from the sum, and check it once more.\"},\"logprobs\":null,"
        "\"finish_reason\":\"stop\",\"stop_reason\":null,\"token_ids\":null}],\"service_tier\":null,"
        "\"system_fingerprint\":null,%s,\"prompt_logprobs\":null,\"prompt_token_ids\":null,\"kv_transfer_params\":null}",
        number, wish->created, wish->model, number % 100, usage);
    return json_answer(json_buffer, (size_t)length);
}

static int event(int at, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Append one SSE event as one HTTP chunk; the text is JSON, or [DONE]. */
static int event(int at, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(json_buffer, sizeof json_buffer, format, arguments);
    va_end(arguments);
    return at + snprintf(text_buffer + at, sizeof text_buffer - (size_t)at, "%x\r\ndata: %s\n\n\r\n", length + 8,
                         json_buffer);
}

static int chunk(int at, const struct wish *wish, unsigned long number, const char *delta, const char *finish, long tokens)
{
    char usage[256] = "";
    long half = wish->chunks / 2;
    if (wish->continuous) {
        usage[0] = ',';
        usage_json(usage + 1, sizeof usage - 1, tokens, tokens < half ? tokens : half);
    }
    return event(at,
                 "{\"id\":\"chatcmpl-%032lx\",\"object\":\"chat.completion.chunk\",\"created\":%ld,\"model\":\"%s\","
                 "\"choices\":[{\"index\":0,\"delta\":{%s},\"logprobs\":null,\"finish_reason\":%s,\"token_ids\":null}]%s}",
                 number, wish->created, wish->model, delta, finish, usage);
}

static struct text stream_end(const struct wish *wish, unsigned long number)
{
    char usage[256];
    int at = 0;
    usage_json(usage, sizeof usage, wish->chunks, wish->chunks / 2);
    if (wish->usage)
        at = event(at,
                   "{\"id\":\"chatcmpl-%032lx\",\"object\":\"chat.completion.chunk\",\"created\":%ld,\"model\":\"%s\","
                   "\"choices\":[],%s}",
                   number, wish->created, wish->model, usage);
    at = event(at, "[DONE]");
    return written(at + snprintf(text_buffer + at, sizeof text_buffer - (size_t)at, "0\r\n\r\n"));
}

struct text stream_part(const struct wish *wish, unsigned long number, long at, bool *last)
{
    static const char HEAD[] = "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                               "transfer-encoding: chunked\r\n\r\n";
    char delta[96];
    *last = false;
    if (at == 0) {
        memcpy(text_buffer, HEAD, sizeof HEAD);
        return written(chunk(sizeof HEAD - 1, wish, number, "\"role\":\"assistant\",\"content\":\"\"", "null", 0));
    }
    if (at <= wish->chunks) {
        const char *kind = at <= wish->chunks / 2 ? "reasoning" : "content";
        snprintf(delta, sizeof delta, "\"%s\":\"%s\"", kind, WORDS[(number + (unsigned long)at) % 16]);
        return written(chunk(0, wish, number, delta, "null", at));
    }
    if (at == wish->chunks + 1)
        return written(chunk(0, wish, number, "", "\"stop\"", wish->chunks));
    *last = true;
    return stream_end(wish, number);
}
