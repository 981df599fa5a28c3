/* Sending: from what bjoern writes to what the client gets.
 *
 * bjoern writes the head of an answer and perhaps bytes behind it. The guard decides how
 * the head's Connection field reads, sends a planned body behind it that bjoern never sees,
 * and holds the body to the length that the head announces.
 *
 * While a planned body is going out, the last byte of the head counts as unsent: bjoern
 * comes back for it whenever the socket is writable.
 */
#define _GNU_SOURCE
#include "guard.h"

#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PIECE_BYTES BLOCK_BYTES  /* of a file at once: each send wakes the reader, which costs more than copying */
#define WITH_HEAD_BYTES (16 * 1024) /* a body up to here leaves in one sendmsg with its head */
#define SPLICED_BYTES (16 * 1024) /* from here on sendfile of a warm block is cheaper than copying it */
#define KEPT_BYTES (64 * 1024)   /* of a piece that the socket did not take; more is read again */
#define CROWD 256                /* answers that are not out yet, from which on each may hold less */
#define CROWDED_BYTES (32 * 1024) /* that the kernel holds unsent for a client in a crowd */
#define TURN_BYTES (1024 * 1024)  /* of a body before other connections get their turn */

/* What bjoern 3.2.2 ends every head with (wsgi.c, wsgi_getheaders). */
const char ENDING_KEEP[] = "\r\nConnection: Keep-Alive\r\n\r\n";
static const char KEEP_CHUNKED[] = "\r\nConnection: Keep-Alive\r\nTransfer-Encoding: chunked\r\n\r\n";
const char ENDING_CLOSE[] = "\r\nConnection: close\r\n\r\n";
static const char CLOSE_CHUNKED[] = "\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";

struct answer_head {
    size_t length;       /* of bjoern's head, blank line included */
    size_t fields;       /* of it, what stands before the Connection field */
    const char *ending;  /* what takes the Connection field's place */
    size_t ending_length;
    int status;
    uint64_t body;       /* bytes that may follow */
};

void answer_begin(struct conn *c) {
    c->phase = PHASE_HEAD;
    c->answer_head_sent = 0;
    c->answer_sent = 0;
    c->answer_left = ANSWER_OPEN;
    c->may_wait = false;
    repeat_want_not(c);
}

void plan_drop(struct conn *c) {
    file_release(c->plan.file);
    free(c->plan.buffer);
    c->plan = (struct plan){.kind = PLAN_NONE};
    c->is_cold = false;
}

static bool make_buffer(struct plan *plan, size_t length) {
    plan->buffer = malloc(length ? length : 1);
    plan->kind = PLAN_BUFFER;
    plan->left = plan->buffer_stop = length;
    return plan->buffer != NULL;
}

bool plan_buffer(struct conn *c, const void *bytes, size_t length) {
    plan_drop(c);
    if (!make_buffer(&c->plan, length)) {
        plan_drop(c);
        return false;
    }
    memcpy(c->plan.buffer, bytes, length);
    return true;
}

/* The warm block that has the next `length` bytes of a file all together, or NULL. */
static const struct block *warm_span(struct file *file, off_t offset, uint64_t length, bool asks, size_t *where) {
    const struct block *block = length > 0 ? warm_block(file, offset, asks, where) : NULL;
    return block != NULL && block->length - *where >= length ? block : NULL;
}

/* Read a small body now, so that it was looked at before its head goes out. */
static enum reading plan_read(struct conn *c, struct file *file, off_t offset, size_t length) {
    enum reading reading = READ_FAILED;
    if (make_buffer(&c->plan, length))
        reading = file_read(file, c->plan.buffer, offset, length, c->may_wait);
    if (reading != READ_DONE) {
        plan_drop(c);
        return reading;
    }
    c->plan.file = file_hold(file);
    c->plan.offset = offset;
    return READ_DONE;
}

/* Whether the first piece of a large body may turn out to be cold, as far as two bytes of it tell. */
static bool begins_cold(const struct conn *c, struct file *file, off_t offset, size_t length) {
    size_t where, first = length < PIECE_BYTES ? length : PIECE_BYTES;
    return !c->may_wait && warm_block(file, offset, false, &where) == NULL && !file_seems_at_hand(file, offset, first);
}

/* Plan a body out of a file. What is small and not warm is read now. Nothing is planned where its bytes
 * cannot be had unchanged, or are cold as far as that shows. */
enum reading plan_file(struct conn *c, struct file *file, off_t offset, size_t length) {
    size_t where;
    plan_drop(c);
    if (length <= WITH_HEAD_BYTES && warm_span(file, offset, length, true, &where) == NULL)
        return plan_read(c, file, offset, length);
    if (!file_is_unchanged(file))
        return READ_FAILED;
    if (length > WITH_HEAD_BYTES && begins_cold(c, file, offset, length))
        return READ_COLD;
    c->plan = (struct plan){.kind = PLAN_FILE, .file = file_hold(file), .offset = offset, .left = length};
    return READ_DONE;
}

/* Have header lines sent with this answer, each beginning with CR LF. */
bool fields_keep(struct conn *c, const char *lines, size_t length) {
    fields_drop(c);
    c->fields = malloc(length ? length : 1);
    if (c->fields == NULL)
        return false;
    memcpy(c->fields, lines, length);
    c->fields_length = length;
    return true;
}

void fields_drop(struct conn *c) {
    free(c->fields);
    c->fields = NULL;
    c->fields_length = 0;
}

/* Whether bjoern's answer went out as announced; called when bjoern turns back to reading. */
bool answer_finish(struct conn *c) {
    bool is_whole = c->phase != PHASE_HEAD && (c->answer_left == 0 || c->answer_left == ANSWER_OPEN);
    if (!is_whole && !c->is_cut)
        guard.counters.bad_answers++;
    plan_drop(c);
    fields_drop(c);
    return is_whole;
}

static bool ends_with(const char *text, size_t length, const char *end, size_t end_length) {
    return length >= end_length && memcmp(text + length - end_length, end, end_length) == 0;
}

/* The value of Content-Length in a head; ANSWER_OPEN without one. */
static uint64_t announced(const char *head, size_t length) {
    static const char NAME[] = "content-length:";
    const char *line = head, *stop = head + length;
    while ((line = memchr(line, '\n', (size_t)(stop - line))) != NULL) {
        line++;
        if ((size_t)(stop - line) < sizeof NAME)
            break;
        if ((*line | 0x20) != 'c' || strncasecmp(line, NAME, sizeof NAME - 1) != 0)
            continue;
        const char *digit = line + sizeof NAME - 1;
        uint64_t value = 0;
        while (*digit == ' ')
            digit++;
        while (*digit >= '0' && *digit <= '9' && value < UINT64_MAX / 10)
            value = value * 10 + (uint64_t)(*digit++ - '0');
        return value;
    }
    return ANSWER_OPEN;
}

/* Where a head's blank line begins. With a planned body nothing of bjoern's may follow it. */
static const char *find_blank(const struct conn *c, const char *text, size_t n) {
    if (n < 12)
        return NULL;
    size_t own = c->plan.kind != PLAN_NONE ? 0 : c->own_length;
    if (own < n && ends_with(text, n - own, ENDING_KEEP, sizeof ENDING_KEEP - 1))
        return text + n - own - 4;
    return memmem(text, n, "\r\n\r\n", 4);
}

/* Understand a head of bjoern's; false where it is none that an application asked for. */
static bool understand(struct conn *c, const char *text, size_t n, struct answer_head *out) {
    const char *blank = find_blank(c, text, n);
    if (blank == NULL || memcmp(text, "HTTP/1.1 ", 9) != 0)
        return false;
    out->length = (size_t)(blank - text) + 4;
    out->status = (text[9] - '0') * 100 + (text[10] - '0') * 10 + (text[11] - '0');
    bool is_chunked = false;
    if (ends_with(text, out->length, ENDING_KEEP, sizeof ENDING_KEEP - 1)) {
        out->fields = out->length - (sizeof ENDING_KEEP - 1);
    } else if (ends_with(text, out->length, KEEP_CHUNKED, sizeof KEEP_CHUNKED - 1)) {
        out->fields = out->length - (sizeof KEEP_CHUNKED - 1);
        is_chunked = true;
    } else {
        return false;
    }
    bool has_body = !c->is_head_request && out->status != 204 && out->status != 304 && out->status >= 200;
    out->body = has_body ? announced(text, out->fields + 2) : 0;
    if (is_chunked && c->is_http10)
        return false; /* RFC 9112 section 6.1: such a client does not know chunks */
    if (!is_chunked && out->body == ANSWER_OPEN)
        c->wants_close = true; /* RFC 9112 section 6.3: the end of the connection is the end of the body */
    out->ending = is_chunked ? (c->wants_close ? CLOSE_CHUNKED : KEEP_CHUNKED) : (c->wants_close ? ENDING_CLOSE : ENDING_KEEP);
    out->ending_length = strlen(out->ending);
    return true;
}

/* bjoern is to come back at once: for its next piece, or for an error again. A watcher that it stops forgets this. */
static void call_again(struct conn *c) {
    int error = errno;
    ev_feed_event(c->loop, c->watcher, EV_WRITE);
    errno = error;
}

/* The client is gone: bjoern is to give up, at once or (a chunked answer) at its next write. */
static ssize_t fail(struct conn *c) {
    plan_drop(c);
    c->is_ending = c->is_cut = true;
    call_again(c);
    errno = EPIPE;
    return -1;
}

/* The same while bjoern holds its head. It is told that all of it went out and fails at what follows:
 * NOTE: bjoern frees a head that it could not write, and with wsgi.file_wrapper uses it again. */
static ssize_t fail_head(struct conn *c, size_t n) {
    guard.counters.write_errors++;
    c->phase = PHASE_BODY;
    fail(c);
    return (ssize_t)n;
}

/* Answer 500 instead of what bjoern made of an application's failure, and end the connection. */
static ssize_t replace_failure(struct conn *c, size_t n) {
    guard.counters.bad_answers++;
    guard_refuse(c, 500, "internal", NULL, 0);
    c->phase = PHASE_BODY;
    c->answer_left = 0;
    call_again(c);
    return (ssize_t)n;
}

void account(struct conn *c, size_t body) {
    c->answer_sent += body;
    guard.counters.bytes_out += body;
    if (c->answer_left != ANSWER_OPEN)
        c->answer_left -= body;
}

/* The connection cannot go on: what was announced will not come. */
static void cut(struct conn *c) {
    struct linger at_once = {.l_onoff = 1, .l_linger = 0}; /* what is queued is not sent either */
    setsockopt(fd_of(c), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    guard.counters.cut++;
    c->is_cut = true;
}

/* Nothing more goes into the socket now, or there is nothing at hand; `reported` bytes of bjoern's are out. */
static ssize_t blocked(struct conn *c, ssize_t reported) {
    if (c->is_cold)
        ev_io_stop(c->loop, c->watcher);
    else
        wait_writable(c);
    if (reported > 0)
        return reported;
    errno = EAGAIN;
    return -1;
}

/* Send from the plan's buffer; what the socket does not take stays there. */
static ssize_t send_buffered(struct conn *c, bool is_last) {
    struct plan *plan = &c->plan;
    ssize_t sent = send(fd_of(c), plan->buffer + plan->buffer_start, plan->buffer_stop - plan->buffer_start,
                        MSG_NOSIGNAL | (is_last ? 0 : MSG_MORE));
    if (sent <= 0)
        return sent;
    plan->buffer_start += (size_t)sent;
    if (plan->buffer_start == plan->buffer_stop) {
        free(plan->buffer);
        plan->buffer = NULL;
    }
    plan->is_full = plan->buffer != NULL;
    return sent;
}

/* Keep what the socket did not take of a piece, to save reading it again. */
static bool keep_piece(struct plan *plan, const char *rest, size_t length) {
    plan->buffer = malloc(length);
    if (plan->buffer == NULL)
        return false;
    memcpy(plan->buffer, rest, length);
    plan->buffer_start = 0;
    plan->buffer_stop = length;
    return true;
}

static int more_after(const struct plan *plan, size_t length) {
    return MSG_NOSIGNAL | (length < plan->left ? MSG_MORE : 0);
}

/* Send from a warm block: large pieces as the pages that they are. */
static ssize_t send_warm(struct conn *c, const struct block *block, size_t where) {
    struct plan *plan = &c->plan;
    size_t most = block->length - where;
    if (c->holds_less && most > KEPT_BYTES)
        most = KEPT_BYTES;
    size_t length = plan->left < most ? (size_t)plan->left : most;
    off_t from = (off_t)where;
    ssize_t sent = block->memfd >= 0 && length > SPLICED_BYTES
                       ? sendfile(fd_of(c), block->memfd, &from, length)
                       : send(fd_of(c), block->bytes + where, length, more_after(plan, length));
    if (sent > 0)
        plan->offset += sent;
    plan->is_full = sent < (ssize_t)length;
    return sent;
}

/* Send from the file itself.
 *
 * A piece is read, the file is looked at, and only then the piece goes out: no byte is sent that was
 * not in the file as it was mounted. (sendfile(2) would leave the file's own pages in the socket's
 * queue, where whoever writes to the file still changes what the client gets.)
 */
static ssize_t send_cold(struct conn *c, size_t most) {
    static char piece[PIECE_BYTES];
    struct plan *plan = &c->plan;
    if (c->holds_less && most > KEPT_BYTES)
        most = KEPT_BYTES;
    size_t wanted = plan->left < most ? (size_t)plan->left : most;
    enum reading reading = file_read(plan->file, piece, plan->offset, wanted, c->may_wait);
    if (reading == READ_COLD) {
        if (cold_wait(c)) {
            errno = EAGAIN;
            return -1;
        }
        reading = file_read(plan->file, piece, plan->offset, wanted, true);
    }
    if (reading == READ_FAILED)
        return 0;
    c->may_wait = false;
    ssize_t sent = send(fd_of(c), piece, wanted, more_after(plan, wanted));
    if (sent <= 0)
        return sent;
    size_t rest = wanted - (size_t)sent;
    bool is_kept = rest > 0 && rest <= KEPT_BYTES && !c->holds_less && keep_piece(plan, piece + sent, rest);
    plan->offset += is_kept ? (off_t)wanted : (off_t)sent;
    plan->is_full = rest > 0;
    return sent;
}

/* One piece of the planned body; bytes sent, 0 where the file ended or changed, or -1. */
static ssize_t send_piece(struct conn *c) {
    struct plan *plan = &c->plan;
    size_t where;
    if (plan->buffer != NULL)
        return send_buffered(c, plan->buffer_stop - plan->buffer_start == plan->left);
    off_t stop = plan->offset - plan->offset % BLOCK_BYTES + BLOCK_BYTES;
    const struct block *block = warm_block(plan->file, plan->offset, plan->asked < stop, &where);
    plan->asked = stop;
    return block != NULL ? send_warm(c, block, where) : send_cold(c, (size_t)(stop - plan->offset));
}

/* Send what is planned, as far as the socket takes it and others can wait. */
enum sending plan_send(struct conn *c) {
    uint64_t before = c->plan.left;
    while (c->plan.left > 0) {
        ssize_t sent = send_piece(c);
        if (sent < 0 && errno == EAGAIN)
            return SENDING_WAITS;
        if (sent == 0)
            cut(c);
        if (sent <= 0)
            return SENDING_FAILED;
        c->plan.left -= (uint64_t)sent;
        account(c, (size_t)sent);
        if (c->plan.is_full || (before - c->plan.left >= TURN_BYTES && c->plan.left > 0))
            return SENDING_WAITS;
    }
    return SENDING_DONE;
}

/* The same for bjoern; `owed` is what it thinks is left, all but its last byte already out. */
static ssize_t write_plan(struct conn *c, size_t owed) {
    switch (plan_send(c)) {
    case SENDING_WAITS:
        return blocked(c, (ssize_t)owed - 1);
    case SENDING_FAILED:
        return fail_head(c, owed);
    case SENDING_DONE:
        break;
    }
    plan_drop(c);
    c->phase = PHASE_BODY;
    call_again(c);
    return (ssize_t)owed;
}

/* The first bytes of the planned body have gone out, with its head. */
void plan_advance(struct conn *c, size_t of_body) {
    c->plan.left -= of_body;
    c->plan.offset += (off_t)of_body;
    if (c->plan.kind == PLAN_BUFFER)
        c->plan.buffer_start = of_body;
    account(c, of_body);
}

/* bjoern's own body bytes: as many as were announced, the rest is swallowed. */
static ssize_t write_body(struct conn *c, const char *bytes, size_t n) {
    if (c->is_cut)
        return fail(c);
    size_t allowed = n < c->answer_left ? n : (size_t)c->answer_left;
    if (allowed < n && !c->is_head_request)
        guard.counters.bad_answers++;
    size_t done = 0;
    if (allowed > 0) {
        ssize_t sent = send(fd_of(c), bytes, allowed, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN ? blocked(c, 0) : fail(c);
        account(c, (size_t)sent);
        done = (size_t)sent;
    }
    if (done < allowed)
        return blocked(c, (ssize_t)done);
    call_again(c);
    return (ssize_t)n;
}

/* The planned body, where it is small and at hand; else empty. */
struct iovec plan_small_body(const struct plan *plan) {
    size_t where;
    if (plan->kind == PLAN_BUFFER)
        return (struct iovec){plan->buffer, plan->buffer_stop};
    if (plan->kind == PLAN_NONE || plan->left > WITH_HEAD_BYTES)
        return (struct iovec){0};
    const struct block *block = warm_span(plan->file, plan->offset, plan->left, false, &where);
    return block == NULL ? (struct iovec){0} : (struct iovec){block->bytes + where, plan->left};
}

/* What is to go out now: the rest of the head, `own` bytes of bjoern's behind it, a small planned body. */
static size_t gather(struct conn *c, const struct answer_head *head, const char *text, size_t own,
                     struct iovec out[5]) {
    size_t count = 0, skip = c->answer_head_sent;
    const char *parts[] = {text, c->fields, head->ending};
    const size_t lengths[] = {head->fields, c->fields_length, head->ending_length};
    for (size_t k = 0; k < 3; k++) {
        size_t from = skip < lengths[k] ? skip : lengths[k];
        skip -= from;
        if (from < lengths[k])
            out[count++] = (struct iovec){(char *)parts[k] + from, lengths[k] - from};
    }
    if (own > 0)
        out[count++] = (struct iovec){(char *)text + head->length, own};
    out[count] = plan_small_body(&c->plan);
    return count + (out[count].iov_len > 0);
}

/* Thousands of clients that do not read must not use up what memory the kernel has for TCP. */
void mind_the_crowd(struct conn *c) {
    if (guard.counters.states[CONN_BUSY] <= CROWD || c->holds_less)
        return;
    int bytes = CROWDED_BYTES;
    c->holds_less = setsockopt(fd_of(c), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes) == 0;
}

/* Have this answer repeated, if it is one that keeps the connection and can be told whole. */
static void remember(struct conn *c, const struct answer_head *head, const char *text, size_t own) {
    const char *body = text + head->length;
    if (c->plan.kind == PLAN_BUFFER && c->plan.file == NULL) {
        body = c->plan.buffer;
        own = c->plan.buffer_stop;
    }
    bool is_whole = c->plan.file != NULL ? c->plan.left == head->body : own == head->body;
    if (head->ending == ENDING_KEEP && is_whole)
        repeat_remember(c, text, head->fields, body, own);
    repeat_want_not(c);
}

static ssize_t write_head(struct conn *c, const char *text, size_t n) {
    struct answer_head head;
    mind_the_crowd(c);
    if (c->answer_head_sent == 0 && guard.is_closing)
        c->wants_close = true; /* said once: a head that goes out in pieces must not change its mind */
    if (!understand(c, text, n, &head))
        return replace_failure(c, n);
    if (c->answer_head_sent == 0) {
        c->answer_left = head.body;
        if (c->plan.kind != PLAN_NONE && c->plan.left != head.body)
            plan_drop(c); /* a HEAD, a 304, or an application that changed its mind */
    }
    size_t own = n - head.length;
    if (own > c->answer_left || c->plan.kind != PLAN_NONE) {
        guard.counters.bad_answers += own > c->answer_left && !c->is_head_request;
        own = c->plan.kind != PLAN_NONE ? 0 : (size_t)c->answer_left;
    }
    if (c->memo != NULL)
        remember(c, &head, text, own);
    struct iovec parts[5];
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = gather(c, &head, text, own, parts)};
    bool is_body_later = c->plan.kind == PLAN_FILE && c->plan.left > WITH_HEAD_BYTES;
    ssize_t sent = sendmsg(fd_of(c), &message, MSG_NOSIGNAL | (is_body_later ? MSG_MORE : 0));
    if (sent < 0)
        return errno == EAGAIN ? blocked(c, 0) : fail_head(c, n);
    size_t head_length = head.fields + c->fields_length + head.ending_length;
    size_t of_head = head_length - c->answer_head_sent;
    if ((size_t)sent < of_head) {
        c->answer_head_sent += (size_t)sent;
        return blocked(c, 0);
    }
    size_t of_body = (size_t)sent - of_head;
    c->answer_head_sent = head_length;
    if (c->wants_close)
        c->is_ending = true;
    if (c->plan.kind != PLAN_NONE) {
        c->phase = PHASE_PLAN;
        plan_advance(c, of_body);
        return write_plan(c, n);
    }
    account(c, of_body);
    c->phase = PHASE_BODY;
    if (of_body < own)
        return blocked(c, (ssize_t)(head.length + of_body));
    call_again(c);
    return (ssize_t)n;
}

/* Stands in for write(2) of bjoern; the GIL is held. */
ssize_t guard_write(int fd, const void *buffer, size_t length) {
    struct conn *c = conn_of(fd);
    if (c == NULL)
        return write(fd, buffer, length);
    if (c->is_parking) {
        call_again(c);
        return (ssize_t)length;
    }
    switch (c->phase) {
    case PHASE_HEAD:
        return write_head(c, buffer, length);
    case PHASE_PLAN:
        return write_plan(c, length);
    default:
        return write_body(c, buffer, length);
    }
}

/* Stands in for sendfile(2) of bjoern, which would send a file to its end: to the announced length. */
ssize_t guard_sendfile(int fd, int file, off_t *offset, size_t count) {
    struct conn *c = conn_of(fd);
    if (c == NULL)
        return sendfile(fd, file, offset, count);
    size_t allowed = count < c->answer_left ? count : (size_t)c->answer_left;
    if (c->is_parking || allowed == 0)
        return 0;
    if (c->answer_left == ANSWER_OPEN)
        cut(c); /* its head said chunked, and bjoern sends the bare file */
    if (c->is_cut)
        return fail(c);
    ssize_t sent = sendfile(fd, file, offset, allowed);
    if (sent < 0)
        return errno == EAGAIN ? blocked(c, 0) : fail(c);
    account(c, (size_t)sent);
    call_again(c);
    return sent;
}

void corr_id_new(char *out, size_t size) {
    char digits[16];
    size_t count = 0, length = strnlen(guard.corr_prefix, size - sizeof digits - 3);
    for (uint64_t left = ++guard.corr_count; left > 0; left >>= 4)
        digits[count++] = "0123456789abcdef"[left & 15];
    memcpy(out, guard.corr_prefix, length);
    out[length++] = '-';
    out[length++] = 'g';
    while (count > 0)
        out[length++] = digits[--count];
    out[length] = '\0';
}

static const char *phrase_of(int status) {
    switch (status) {
    case 400: return "Bad Request";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 417: return "Expectation Failed";
    case 431: return "Request Header Fields Too Large";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    default: return "Internal Server Error";
    }
}

/* A whole answer with its problem document (RFC 9457), after which the connection ends. */
size_t own_answer(char *out, size_t size, int status, const char *reason, const char *corr_id, bool has_body) {
    char body[320], date[40];
    time_t now = time(NULL);
    struct tm utc;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &utc));
    int body_length = snprintf(body, sizeof body,
                               "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"reason\":\"%s\",\"corr_id\":\"%s\"}",
                               phrase_of(status), status, reason, corr_id);
    int length = snprintf(out, size,
                          "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: application/problem+json\r\n"
                          "Content-Length: %d\r\nX-Reason: %s\r\nX-Corr-ID: %s\r\nCache-Control: no-store\r\n"
                          "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n%s%s"
                          "Connection: close\r\n\r\n%s",
                          status, phrase_of(status), date, body_length, reason, corr_id,
                          status == 405 ? "Allow: GET, HEAD, OPTIONS\r\n" : "",
                          status == 503 ? "Retry-After: 1\r\n" : "", has_body ? body : "");
    return length < 0 || (size_t)length >= size ? 0 : (size_t)length;
}
