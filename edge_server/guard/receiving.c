/* Receiving: from the client's bytes to the one request that bjoern reads.
 *
 * bjoern gets exactly one complete, normalised head a read. What came with it stays here
 * until bjoern reads again; bodies are counted and discarded before their request is given on.
 */
#define _GNU_SOURCE
#include "guard.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum verdict { STARVED, READY, REFUSED };

#define SCRATCH_BYTES (64 * 1024)

static char scratch[SCRATCH_BYTES];
char guard_head[HEAD_BYTES]; /* the request that bjoern was given last; park keeps a copy */

static const char CONTINUE[] = "HTTP/1.1 100 Continue\r\n\r\n";

static bool keep_head(struct conn *c, size_t length) {
    c->head = malloc(length);
    if (c->head == NULL)
        return false;
    memcpy(c->head, guard_head, length);
    c->head_length = length;
    return true;
}

/* RFC 9110 section 10.1.1: only where the body would be read, and not if it is here already. */
static void tell_continue(struct conn *c, size_t body_bytes_here) {
    if (body_bytes_here == 0)
        (void)send(fd_of(c), CONTINUE, sizeof CONTINUE - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static enum verdict refuse_framing(struct conn *c, enum framing_reason reason, const char *corr_id,
                                   size_t corr_id_length) {
    guard_refuse(c, framing_reason_status(reason), framing_reason_name(reason), corr_id, corr_id_length);
    return REFUSED;
}

static enum verdict read_head(struct conn *c, const char *in, size_t n, size_t *used) {
    struct framing_head head;
    switch (framing_head(in, n, &c->scan, &guard.limits.framing, guard_head, sizeof guard_head, &head)) {
    case FRAMING_MORE:
        return STARVED;
    case FRAMING_REFUSED:
        c->is_head_request = head.is_head;
        return refuse_framing(c, head.reason, in + head.corr_id.start, head.corr_id.stop - head.corr_id.start);
    case FRAMING_DONE:
        break;
    }
    *used = head.consumed;
    c->scan = (struct framing_scan){0};
    guard.head_length = head.length;
    c->wants_close = head.wants_close;
    c->is_head_request = head.is_head;
    c->is_http10 = head.is_http10;
    c->is_chunked_request = head.is_chunked;
    c->request_left = head.content_length;
    guard.raw = in;
    guard.raw_length = in == scratch ? head.consumed : 0; /* what is kept with the connection moves */
    if (!head.is_chunked && head.content_length == 0)
        return READY;
    if (!keep_head(c, head.length))
        return REFUSED;
    framing_chunked_init(&c->chunked);
    conn_enter(c, CONN_BODY);
    if (head.expects_continue)
        tell_continue(c, n - head.consumed);
    return STARVED;
}

/* Discard body bytes; READY when the last one has come. */
static enum verdict read_body(struct conn *c, const char *in, size_t n, size_t *used) {
    size_t taken = 0;
    enum verdict verdict = STARVED;
    if (c->is_chunked_request) {
        enum framing_status status =
            framing_chunked(&c->chunked, in, n, &taken, guard.limits.framing.body_bytes);
        if (status == FRAMING_REFUSED)
            return refuse_framing(c, c->chunked.reason, NULL, 0);
        if (status == FRAMING_DONE)
            verdict = READY;
    } else {
        taken = n < c->request_left ? n : (size_t)c->request_left;
        c->request_left -= taken;
        if (c->request_left == 0)
            verdict = READY;
    }
    guard.counters.body_bytes_in += taken;
    *used += taken;
    if (verdict == READY) {
        memcpy(guard_head, c->head, c->head_length);
        guard.head_length = c->head_length;
        guard.raw_length = 0;
        free(c->head);
        c->head = NULL;
    }
    return verdict;
}

static enum verdict advance(struct conn *c, const char *in, size_t n, size_t *used) {
    *used = 0;
    if (c->state == CONN_FRESH || c->state == CONN_IDLE) {
        conn_enter(c, CONN_HEAD);
        c->arrived_ns = c->since_ns;
    }
    if (c->state == CONN_HEAD) {
        enum verdict verdict = read_head(c, in, n, used);
        if (verdict != STARVED || c->state != CONN_BODY)
            return verdict;
    }
    return read_body(c, in + *used, n - *used, used);
}

static void forget_input(struct conn *c) {
    free(c->input);
    c->input = NULL;
    c->input_used = c->input_size = 0;
}

/* Keep what `advance` left of `in`, which is the connection's own input or the scratch. */
static bool keep_rest(struct conn *c, const char *in, size_t n, size_t used) {
    size_t rest = n - used;
    if (rest == 0) {
        forget_input(c);
        return true;
    }
    if (in == c->input) {
        memmove(c->input, c->input + used, rest);
        c->input_used = rest;
        return true;
    }
    c->input = malloc(rest);
    if (c->input == NULL)
        return false;
    memcpy(c->input, in + used, rest);
    c->input_used = c->input_size = rest;
    return true;
}

/* Receive behind what is there already; the head's cap bounds how far that can grow. */
static ssize_t receive_more(struct conn *c) {
    if (c->input_used == c->input_size) {
        size_t wanted = c->input_size < 1024 ? 2048 : 2 * c->input_size;
        char *grown = realloc(c->input, wanted);
        if (grown == NULL) {
            errno = ENOMEM;
            return -1;
        }
        c->input = grown;
        c->input_size = wanted;
    }
    ssize_t got = recv(fd_of(c), c->input + c->input_used, c->input_size - c->input_used, 0);
    if (got > 0)
        c->input_used += (size_t)got;
    return got;
}

static ssize_t deliver(struct conn *c, void *buffer, bool is_replay) {
    memcpy(buffer, guard_head, guard.head_length);
    c->is_replay = is_replay;
    guard.current = c;
    guard.counters.requests++;
    conn_enter(c, CONN_BUSY);
    answer_begin(c);
    return (ssize_t)guard.head_length;
}

static ssize_t replay(struct conn *c, void *buffer) {
    memcpy(guard_head, c->head, c->head_length);
    guard.head_length = c->head_length;
    free(c->head);
    c->head = NULL;
    c->is_resumed = false;
    guard.raw_length = 0;
    guard.counters.replays++;
    return deliver(c, buffer, true);
}

/* A parked connection is only watched for its client's leaving. */
static ssize_t look_at_parked(struct conn *c) {
    char byte;
    ssize_t got = recv(fd_of(c), &byte, 1, MSG_PEEK);
    if (got > 0) { /* pipelined: it waits in the kernel until the answer is out */
        guard_stop(c->loop, c->watcher);
        errno = EAGAIN;
        return -1;
    }
    return got;
}

static bool is_between_requests(const struct conn *c) {
    return c->state == CONN_FRESH || c->state == CONN_IDLE;
}

static ssize_t nothing_for_bjoern(struct conn *c) {
    if (!c->is_repeating)
        wait_readable(c);
    errno = EAGAIN;
    return -1;
}

/* Stands in for read(2) of bjoern. */
ssize_t guard_read(int fd, void *buffer, size_t size) {
    struct conn *c = conn_of(fd);
    if (c == NULL)
        return read(fd, buffer, size);
    if (c->is_ending)
        return 0;
    if (c->is_repeating)
        return nothing_for_bjoern(c);
    if (c->state == CONN_PARKED)
        return c->is_resumed ? replay(c, buffer) : look_at_parked(c);
    for (unsigned answers = 0;;) {
        const char *in = c->input;
        size_t n = c->input_used, used;
        if (n == 0 || c->is_starved) {
            ssize_t got = n == 0 ? recv(fd, scratch, sizeof scratch, 0) : receive_more(c);
            if (got <= 0) {
                if (got < 0 && (errno == EAGAIN || errno == EINTR))
                    return nothing_for_bjoern(c);
                return got;
            }
            in = n == 0 ? scratch : c->input;
            n += (size_t)got;
        }
        enum repeat repeated = is_between_requests(c) ? repeat_try(c, in, n, &used) : REPEAT_NO;
        if (repeated != REPEAT_NO) {
            if (!keep_rest(c, in, n, used) || repeated == REPEAT_ENDS)
                return 0;
            bool is_more = repeated == REPEAT_DONE && c->input_used > 0;
            if (is_more && !repeat_is_enough(++answers))
                continue;
            if (is_more)
                repeat_pause(c);
            return nothing_for_bjoern(c);
        }
        enum verdict verdict = advance(c, in, n, &used);
        if (verdict == REFUSED)
            return 0;
        if (!keep_rest(c, in, n, used))
            return 0;
        c->is_starved = verdict == STARVED;
        if (verdict == READY)
            return deliver(c, buffer, false);
    }
}

static void count_lost(const struct refusal *oldest) {
    for (struct refusals_lost *lost = guard.lost; lost < guard.lost + REFUSAL_KINDS; lost++) {
        if (lost->reason != NULL && (lost->status != oldest->status || strcmp(lost->reason, oldest->reason) != 0))
            continue;
        lost->reason = oldest->reason;
        lost->status = oldest->status;
        lost->count++;
        return;
    }
}

static struct refusal *next_refusal(void) {
    struct refusal *next = &guard.refusals[guard.refusals_end % REFUSALS_KEPT];
    if (guard.refusals_end++ - guard.refusals_start == REFUSALS_KEPT) {
        guard.refusals_start++;
        count_lost(next);
    }
    return next;
}

/* Answer in bjoern's stead, and end the connection. */
void guard_refuse(struct conn *c, int status, const char *reason, const char *corr_id, size_t corr_id_length) {
    char answer[1024];
    struct refusal *told = next_refusal();
    *told = (struct refusal){.arrived_ns = c->arrived_ns, .at_ns = now_ns(), .peer = c->peer,
                             .status = status, .reason = reason};
    if (corr_id_length > 0 && corr_id_length < sizeof told->corr_id)
        memcpy(told->corr_id, corr_id, corr_id_length);
    else
        corr_id_new(told->corr_id, sizeof told->corr_id);
    size_t length = own_answer(answer, sizeof answer, status, reason, told->corr_id, !c->is_head_request);
    (void)send(fd_of(c), answer, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    guard.counters.refused++;
    c->is_ending = c->wants_linger = true;
}
