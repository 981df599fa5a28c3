/* Fuzz target of framing.c. The first byte of an input chooses limits and cuts, the rest is what a client sends:
 * heads and bodies of one connection, one after the other.
 *
 * Holds for every input: the answer does not depend on cuts; buffers of the exact size are never overrun; a head in
 * normal form is its own normal form, frames nothing, and (WITH_BJOERN) is exactly one request to bjoern's parser.
 */
#define _GNU_SOURCE
#include "framing.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef WITH_BJOERN
#include "bjoern_view.h"
#endif

#define REQUIRE(condition) ((condition) ? (void)0 : (fprintf(stderr, "%s\n", #condition), abort()))

static char *copy_of(const char *bytes, size_t length)
{
    char *const copy = malloc(length + (length == 0));
    REQUIRE(copy != NULL);
    memcpy(copy, bytes, length);
    return copy;
}

static size_t room(const struct framing_limits *limits)
{
    return limits->head_bytes + FRAMING_GROWTH;
}

static enum framing_status feed(const char *bytes, size_t length, size_t step, const struct framing_limits *limits, char *out,
                                struct framing_head *head)
{
    struct framing_scan scan = {0};
    for (size_t come = step < length ? step : length;; come = come + step < length ? come + step : length) {
        char *const in = copy_of(bytes, come);
        const enum framing_status status = framing_head(in, come, &scan, limits, out, room(limits), head);
        free(in);
        REQUIRE(status != FRAMING_MORE || come < limits->head_bytes);
        if (status != FRAMING_MORE || come == length)
            return status;
    }
}

static void require_normal(const char *out, const struct framing_head *head, const struct framing_limits *limits)
{
    const struct framing_limits wider = {.head_bytes = limits->head_bytes + FRAMING_GROWTH, .target_bytes = limits->target_bytes + FRAMING_GROWTH,
                                         .fields = limits->fields + 1};
    char *const again = malloc(room(&wider));
    struct framing_head other;
    const enum framing_status status = feed(out, head->length, head->length, &wider, again, &other);
    REQUIRE(status == FRAMING_DONE ? other.length == head->length && memcmp(again, out, head->length) == 0
                                   : head->is_http10 && other.reason == FRAMING_BAD_REQUEST);
    REQUIRE(status == FRAMING_REFUSED || (!other.is_chunked && other.content_length == 0 && !other.wants_close));
    free(again);
#ifdef WITH_BJOERN
    static struct view view;
    REQUIRE(view_parse(out, head->length, &view));
#endif
}

static size_t try_head(const char *bytes, size_t length, size_t step, const struct framing_limits *limits, struct framing_head *head)
{
    char *const out = malloc(room(limits)), *const cut_out = malloc(room(limits));
    struct framing_head cut;
    const enum framing_status status = feed(bytes, length, length, limits, out, head);
    const enum framing_status cut_status = feed(bytes, length, step, limits, cut_out, &cut);
    REQUIRE(status == cut_status && head->reason == cut.reason && head->consumed == cut.consumed && head->length == cut.length);
    REQUIRE(head->content_length == cut.content_length && head->is_chunked == cut.is_chunked && head->is_head == cut.is_head &&
            head->is_http10 == cut.is_http10 && head->wants_close == cut.wants_close &&
            head->expects_continue == cut.expects_continue && head->corr_id.start == cut.corr_id.start &&
            head->corr_id.stop == cut.corr_id.stop);
    REQUIRE(memcmp(out, cut_out, head->length) == 0);
    REQUIRE((status == FRAMING_REFUSED) == (head->reason != FRAMING_OK));
    REQUIRE(head->length <= head->consumed + FRAMING_GROWTH && head->consumed <= limits->head_bytes);
    REQUIRE(head->corr_id.stop <= head->consumed && head->corr_id.start <= head->corr_id.stop);
    REQUIRE(!(head->is_chunked && head->content_length));
    if (status == FRAMING_DONE)
        require_normal(out, head, limits);
    free(out);
    free(cut_out);
    return status == FRAMING_DONE ? head->consumed : 0;
}

static size_t try_body(const char *bytes, size_t length, size_t step, uint64_t cap)
{
    struct framing_chunked whole, cut;
    size_t consumed, cut_consumed = 0, taken;
    framing_chunked_init(&whole);
    framing_chunked_init(&cut);
    char *in = copy_of(bytes, length);
    const enum framing_status status = framing_chunked(&whole, in, length, &consumed, cap);
    free(in);
    enum framing_status cut_status = FRAMING_MORE;
    while (cut_status == FRAMING_MORE && cut_consumed < length) {
        const size_t take = step < length - cut_consumed ? step : length - cut_consumed;
        in = copy_of(bytes + cut_consumed, take);
        cut_status = framing_chunked(&cut, in, take, &taken, cap);
        free(in);
        cut_consumed += taken;
    }
    REQUIRE(status == cut_status && consumed == cut_consumed && whole.reason == cut.reason);
    REQUIRE(whole.total == cut.total && whole.total <= cap && consumed <= length);
    REQUIRE((status == FRAMING_REFUSED) == (whole.reason != FRAMING_OK));
    REQUIRE(status != FRAMING_MORE || consumed == length);
    return status == FRAMING_DONE ? consumed : length;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    if (size == 0)
        return 0;
    const unsigned choice = data[0];
    const char *bytes = (const char *)data + 1;
    size_t left = size - 1;
    const size_t step = 1 + (choice & 15);
    const struct framing_limits limits = {
        .head_bytes = choice & 16 ? 120 : 4096,
        .target_bytes = choice & 32 ? 12 : 1024,
        .fields = choice & 64 ? 3 : 100,
        .body_bytes = choice & 128 ? 7 : UINT64_MAX,
    };
    for (int requests = 0; left > 0 && requests < 4; requests++) {
        struct framing_head head;
        size_t taken = try_head(bytes, left, step, &limits, &head);
        if (taken == 0)
            break;
        bytes += taken;
        left -= taken;
        taken = head.is_chunked ? try_body(bytes, left, step, limits.body_bytes)
                                : (size_t)(head.content_length < left ? head.content_length : left);
        bytes += taken;
        left -= taken;
    }
    try_body((const char *)data + 1, size - 1, step, limits.body_bytes);
    return 0;
}

#ifndef WITH_LIBFUZZER
/* Without libFuzzer, so that a corpus is a test with any compiler:
 *
 *     fuzz_framing SECONDS SEED CRASH FILE...
 *
 * runs the files, then mutations of them for so long. What fails is written to the file CRASH.
 */
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define INPUT_BYTES (1 << 16)
#define MUTANT_BYTES 700
#define FILES 256

static unsigned char input[INPUT_BYTES];
static size_t input_length;
static const char *crash_file;
static uint64_t seed;

static uint32_t any(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % below;
}

static void keep_crash(int number)
{
    const int file = open(crash_file, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file >= 0 && write(file, input, input_length) == (ssize_t)input_length)
        close(file);
    signal(number, SIG_DFL);
    raise(number);
}

/* Put `length` bytes in the place of `gone` ones, if there is room. */
static void replace(size_t at, size_t gone, const void *bytes, size_t length)
{
    if (input_length - gone + length > MUTANT_BYTES)
        return;
    memmove(input + at + length, input + at + gone, input_length - at - gone);
    memcpy(input + at, bytes, length);
    input_length += length - gone;
}

static void mutate(const unsigned char *other, size_t other_length)
{
    static const char *const words[] = {"\r\n", "\r", "\n", " ", "\t", ":", ",", "0", "\r\n\r\n", "Host: a\r\n", "chunked", "close", "%00",
                                        "Transfer-Encoding: chunked\r\n", "Content-Length: 1\r\n", "Connection: ", "HTTP/1.0", "http://",
                                        "Expect: 100-continue\r\n", "18446744073709551616", "ffffffffffffffff", "\"", "\\", ";", "?", "*"};
    const size_t at = any((uint32_t)input_length + 1);
    const uint32_t rest = (uint32_t)(input_length - at);
    unsigned char byte = (unsigned char)any(256);
    switch (any(6)) {
    case 0:
        if (rest > 0)
            input[at] ^= (unsigned char)(1 << any(8));
        break;
    case 1:
        replace(at, rest > 0, &byte, 1);
        break;
    case 2:
        replace(at, any(rest + 1) % 20, "", 0);
        break;
    case 3: {
        const char *const word = words[any(sizeof words / sizeof *words)];
        replace(at, 0, word, strlen(word));
        break;
    }
    case 4: {
        unsigned char again[64];
        const size_t length = rest < sizeof again ? rest : sizeof again;
        memcpy(again, input + at, length);
        replace(at, 0, again, length);
        break;
    }
    default: {
        const size_t from = any((uint32_t)other_length + 1);
        const size_t length = any((uint32_t)(other_length - from) + 1);
        replace(at, any(rest + 1), other + from, length);
    }
    }
}

int main(int count, char **words)
{
    static struct {
        unsigned char *bytes;
        size_t length;
    } files[FILES];
    if (count < 5 || count - 4 > FILES)
        return 2;
    const double seconds = atof(words[1]);
    seed = strtoull(words[2], NULL, 10) + 1;
    crash_file = words[3];
    signal(SIGABRT, keep_crash);
    signal(SIGSEGV, keep_crash);
    for (int i = 4; i < count; i++) {
        FILE *const file = fopen(words[i], "rb");
        if (file == NULL) {
            perror(words[i]);
            return 1;
        }
        input_length = fread(input, 1, sizeof input, file);
        fclose(file);
        LLVMFuzzerTestOneInput(input, input_length);
        files[i - 4].length = input_length < MUTANT_BYTES ? input_length : MUTANT_BYTES;
        files[i - 4].bytes = malloc(files[i - 4].length + 1);
        REQUIRE(files[i - 4].bytes != NULL);
        memcpy(files[i - 4].bytes, input, files[i - 4].length);
    }
    unsigned long mutants = 0;
    for (const time_t stop = time(NULL) + (time_t)seconds; time(NULL) < stop; mutants++) {
        const uint32_t one = any((uint32_t)count - 4), other = any((uint32_t)count - 4);
        input_length = files[one].length;
        memcpy(input, files[one].bytes, input_length);
        for (uint32_t edits = 1 + any(6); edits > 0; edits--)
            mutate(files[other].bytes, files[other].length);
        LLVMFuzzerTestOneInput(input, input_length);
    }
    printf("%d files and %lu mutants passed\n", count - 4, mutants);
    return 0;
}
#endif
