/* Repeating: the answer to a request that is, byte for byte, one that was answered before.
 *
 * The same bytes ask for the same thing. What the application has told to remember is given again
 * without asking it: same status, fields and body, a new Date and X-Corr-ID. The bytes that are
 * compared are those of the head as it came, all of them, so whatever an answer depends on (path,
 * Host, Range, preconditions, codings, Origin) is compared too; and a head that was understood
 * once need not be parsed again. A file is looked at each time, and the application is asked where
 * it has changed, and where admission has doubts.
 *
 * An answer that does not fit the socket goes on when it is writable again, watched by the guard
 * itself: bjoern knows nothing of it and goes on waiting for a request.
 */
#define _GNU_SOURCE
#include "guard.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#define BUCKETS 32768              /* a power of two */
#define REMEMBERED_BYTES (24 << 20)
#define OWN_BODY_BYTES (64 * 1024) /* of a body that is not a file's */
#define CHAIN 8                    /* answers in a bucket */
#define SAMPLES 256
#define ANSWERS_A_TURN 64          /* of one connection that pipelines, before others get their turn */
#define WHOLE_BYTES 4096           /* input up to here may be one head; more is many, in a pipeline */

struct answer {
    struct answer *next;           /* in its bucket */
    struct answer *newer, *older;
    struct answer *file_next, **file_link; /* among those of its file */
    struct file *file;             /* not held: a file that goes takes its answers along */
    off_t offset;
    uint64_t body_length;
    uint64_t hash;
    int64_t until_ns;              /* from then on the application is asked again; 0: never */
    size_t bytes;                  /* of memory */
    size_t request_length, lines_length;
    unsigned kind;
    bool was_used;                 /* since the hand of the eviction passed */
    bool has_body;                 /* behind the lines, as it is not a file's */
    bool is_of_file;               /* the body is of the file's bytes; else it was only made from them */
    char etag[ETAG_BYTES];
    char text[];                   /* the request, the lines, the body */
};

static struct {
    struct answer **buckets;
    struct answer *newest, *oldest, *hand;
    size_t bytes;
    uint64_t seed;
    unsigned kinds, sample_every, until_sample;
    unsigned bounds;
    int64_t bound_ns[REPEAT_BOUNDS];
    struct repeated repeated[REPEAT_KINDS];
    struct repeat_sample samples[SAMPLES];
    size_t sampled;
} memory;

bool repeat_configure(unsigned kinds, const int64_t *bounds_ns, unsigned bounds, unsigned sample_every) {
    if (kinds > REPEAT_KINDS || bounds > REPEAT_BOUNDS)
        return false;
    if (memory.buckets == NULL && (memory.buckets = calloc(BUCKETS, sizeof *memory.buckets)) == NULL)
        return false;
    if (getrandom(&memory.seed, sizeof memory.seed, 0) != sizeof memory.seed)
        return false;
    memcpy(memory.bound_ns, bounds_ns, bounds * sizeof *bounds_ns);
    memory.kinds = kinds;
    memory.bounds = bounds;
    memory.sample_every = memory.until_sample = sample_every;
    return true;
}

unsigned repeat_kinds(void) {
    return memory.kinds;
}

unsigned repeat_bounds(void) {
    return memory.bounds;
}

struct repeated *repeat_counts(unsigned kind) {
    return &memory.repeated[kind];
}

const struct repeat_sample *repeat_samples(size_t *count) {
    *count = memory.sampled;
    memory.sampled = 0;
    return memory.samples;
}

/* Seeded, so that no client knows which bucket another's heads are in. It can make its own heads meet,
 * which costs it their places (`thin_out`) and nobody anything. PERF: eight bytes a step. */
static uint64_t hash_of(const char *bytes, size_t length) {
    uint64_t hash = memory.seed ^ length, word;
    size_t at = 0;
    for (; at + 8 <= length; at += 8) {
        memcpy(&word, bytes + at, 8);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    word = 0;
    memcpy(&word, bytes + at, length - at);
    hash = (hash ^ word) * UINT64_C(0xbf58476d1ce4e5b9);
    return hash ^ hash >> 32;
}

static struct answer **bucket_of(uint64_t hash) {
    return &memory.buckets[hash & (BUCKETS - 1)];
}

static struct answer *find(const char *request, size_t length) {
    uint64_t hash = hash_of(request, length);
    struct answer *answer = *bucket_of(hash);
    while (answer != NULL && !(answer->hash == hash && answer->request_length == length &&
                               memcmp(answer->text, request, length) == 0))
        answer = answer->next;
    return answer;
}

static void forget(struct answer *answer) {
    struct answer **link = bucket_of(answer->hash);
    while (*link != answer)
        link = &(*link)->next;
    *link = answer->next;
    if (memory.hand == answer)
        memory.hand = answer->newer;
    *(answer->newer != NULL ? &answer->newer->older : &memory.newest) = answer->older;
    *(answer->older != NULL ? &answer->older->newer : &memory.oldest) = answer->newer;
    if (answer->file != NULL) {
        *answer->file_link = answer->file_next;
        if (answer->file_next != NULL)
            answer->file_next->file_link = answer->file_link;
    }
    memory.bytes -= answer->bytes;
    free(answer);
}

void repeat_forget_file(struct file *file) {
    while (file->answers != NULL)
        forget(file->answers);
}

void repeat_forget_all(void) {
    while (memory.oldest != NULL)
        forget(memory.oldest);
}

static void forget_least_used(void) {
    struct answer *answer = memory.hand != NULL ? memory.hand : memory.oldest;
    while (answer->was_used) {
        answer->was_used = false;
        answer = answer->newer != NULL ? answer->newer : memory.oldest;
    }
    memory.hand = answer;
    forget(answer);
}

/* A bucket keeps few, so that heads which meet in one cost nobody a walk: the oldest goes. */
static void thin_out(struct answer **bucket) {
    size_t length = 0;
    struct answer *last = *bucket;
    for (struct answer *each = *bucket; each != NULL; each = each->next, length++)
        last = each;
    if (length >= CHAIN)
        forget(last);
}

static void keep(struct answer *answer, struct file *file) {
    struct answer *same = find(answer->text, answer->request_length);
    if (same != NULL)
        forget(same);
    while (memory.bytes + answer->bytes > REMEMBERED_BYTES)
        forget_least_used();
    struct answer **bucket = bucket_of(answer->hash);
    thin_out(bucket);
    answer->next = *bucket;
    *bucket = answer;
    answer->older = memory.newest;
    *(memory.newest != NULL ? &memory.newest->newer : &memory.oldest) = answer;
    memory.newest = answer;
    memory.bytes += answer->bytes;
    if (file == NULL)
        return;
    answer->file = file;
    answer->file_next = file->answers;
    answer->file_link = &file->answers;
    if (file->answers != NULL)
        file->answers->file_link = &answer->file_next;
    file->answers = answer;
}

/* The application wants its answer to this request repeated. */
bool repeat_want(struct conn *c, unsigned kind, const char *etag, size_t etag_length, struct file *file,
                 int64_t for_ns) {
    if (kind >= memory.kinds || guard.raw_length == 0 || c->wants_close || c->is_head_request ||
        etag_length >= ETAG_BYTES)
        return true;
    struct memo *memo = malloc(sizeof *memo + guard.raw_length);
    if (memo == NULL)
        return false;
    *memo = (struct memo){.kind = kind, .file = file == NULL ? NULL : file_hold(file), .length = guard.raw_length,
                          .until_ns = for_ns == 0 ? 0 : c->since_ns + for_ns};
    memcpy(memo->etag, etag, etag_length);
    memcpy(memo->request, guard.raw, guard.raw_length);
    repeat_want_not(c);
    c->memo = memo;
    return true;
}

void repeat_want_not(struct conn *c) {
    if (c->memo != NULL)
        file_release(c->memo->file);
    free(c->memo);
    c->memo = NULL;
}

/* Copy the lines of a head, but those that are made anew for each answer. */
static size_t put_lines(char *out, const char *lines, size_t length) {
    static const char DATE[] = "\r\nDate: ", CORR_ID[] = "\r\nX-Corr-ID: ";
    const char *at = lines, *stop = lines + length;
    char *const start = out;
    while (at < stop) {
        const char *next = memmem(at + 1, (size_t)(stop - at - 1), "\r\n", 2);
        size_t line = (size_t)((next == NULL ? stop : next) - at);
        bool is_new = (line >= sizeof DATE && memcmp(at, DATE, sizeof DATE - 1) == 0) ||
                      (line >= sizeof CORR_ID && memcmp(at, CORR_ID, sizeof CORR_ID - 1) == 0);
        if (!is_new) {
            memcpy(out, at, line);
            out += line;
        }
        at += line;
    }
    return (size_t)(out - start);
}

/* Its answer's head is about to go out: `lines` from the status line on, without an end, then the
 * connection's own fields, then `own` bytes of body or the plan. */
void repeat_remember(struct conn *c, const char *lines, size_t lines_length, const char *body, size_t own) {
    const struct memo *memo = c->memo;
    size_t most = memo->length + lines_length + c->fields_length + own;
    struct file *file = c->plan.file != NULL ? c->plan.file : memo->file;
    bool is_worth_it = own <= OWN_BODY_BYTES && (file == NULL || !file->is_retired);
    struct answer *answer = is_worth_it ? malloc(sizeof *answer + most) : NULL;
    if (answer != NULL) {
        *answer = (struct answer){.kind = memo->kind, .until_ns = memo->until_ns, .request_length = memo->length,
                                  .hash = hash_of(memo->request, memo->length), .has_body = own > 0,
                                  .body_length = own, .bytes = sizeof *answer + most};
        memcpy(answer->etag, memo->etag, sizeof answer->etag);
        memcpy(answer->text, memo->request, memo->length);
        char *out = answer->text + memo->length;
        answer->lines_length = put_lines(out, lines, lines_length);
        if (c->fields_length > 0)
            memcpy(out + answer->lines_length, c->fields, c->fields_length);
        answer->lines_length += c->fields_length;
        if (own > 0)
            memcpy(out + answer->lines_length, body, own);
        if (c->plan.file != NULL) {
            answer->offset = c->plan.offset;
            answer->body_length = c->plan.left;
            answer->is_of_file = true;
        }
        keep(answer, file);
    }
}

/* "\r\nDate: ...", made once a second. */
static char *put_date(char *out) {
    static time_t made_at;
    static char date[48];
    static size_t length;
    time_t now = time(NULL);
    if (now != made_at) {
        struct tm utc;
        length = strftime(date, sizeof date, "\r\nDate: %a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &utc));
        made_at = now;
    }
    memcpy(out, date, length);
    return out + length;
}

static void count(const struct answer *answer, int64_t latency_ns, uint64_t body) {
    struct repeated *counts = &memory.repeated[answer->kind];
    unsigned bound = 0;
    while (bound < memory.bounds && latency_ns > memory.bound_ns[bound])
        bound++;
    counts->within[bound]++;
    counts->latency_ns += latency_ns;
    counts->bytes += body;
}

static void sample(const struct conn *c, const struct answer *answer, const char *corr_id, int64_t latency_ns) {
    if (memory.sample_every == 0 || --memory.until_sample > 0)
        return;
    memory.until_sample = memory.sample_every;
    if (memory.sampled == SAMPLES)
        return;
    struct repeat_sample *told = &memory.samples[memory.sampled++];
    *told = (struct repeat_sample){.kind = answer->kind, .peer = c->peer, .latency_ns = latency_ns,
                                   .bytes = answer->body_length};
    memcpy(told->etag, answer->etag, sizeof told->etag);
    memcpy(told->corr_id, corr_id, sizeof told->corr_id);
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events);

void repeat_stop(struct conn *c) {
    if (c->is_repeating)
        ev_io_stop(c->loop, &c->own);
    c->is_repeating = false;
}

/* The rest goes out when the socket is writable, or when it has been read ahead; bjoern's watcher rests meanwhile. */
static enum repeat wait(struct conn *c) {
    if (!c->is_repeating) {
        c->is_repeating = true;
        ev_io_stop(c->loop, c->watcher);
        ev_io_init(&c->own, on_writable, fd_of(c), EV_WRITE);
    }
    if (c->is_cold)
        ev_io_stop(c->loop, &c->own);
    else
        ev_io_start(c->loop, &c->own);
    return REPEAT_WAITS;
}

static enum repeat finish(struct conn *c, bool is_sent) {
    repeat_stop(c);
    fields_drop(c);
    plan_drop(c);
    if (!is_sent) {
        guard.counters.write_errors++;
        c->is_ending = c->is_cut = true;
    }
    c->is_ending |= c->wants_close;
    conn_enter(c, CONN_IDLE);
    return c->is_ending ? REPEAT_ENDS : REPEAT_DONE;
}

/* Send what is left: of the head (and of a body that is not planned), which stands in `fields`, and of the plan. */
static enum repeat go_on(struct conn *c) {
    while (c->fields_length > c->answer_head_sent) {
        ssize_t sent = send(fd_of(c), c->fields + c->answer_head_sent, c->fields_length - c->answer_head_sent,
                            MSG_NOSIGNAL | (c->plan.left > 0 ? MSG_MORE : 0));
        if (sent < 0)
            return errno == EAGAIN ? wait(c) : finish(c, false);
        size_t of_head = c->answer_head_sent < c->head_rest ? c->head_rest - c->answer_head_sent : 0;
        c->answer_head_sent += (size_t)sent;
        if ((size_t)sent > of_head)
            account(c, (size_t)sent - of_head);
    }
    enum sending sending = plan_send(c);
    return sending == SENDING_WAITS ? wait(c) : finish(c, sending == SENDING_DONE);
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events) {
    struct conn *c = conn_of(watcher->fd);
    (void)loop;
    (void)events;
    enum repeat now = go_on(c);
    if (now == REPEAT_WAITS)
        return;
    wait_readable(c);
    if (now == REPEAT_ENDS || c->input_used > 0)
        ev_feed_event(c->loop, c->watcher, EV_READ);
}

/* Keep what the socket did not take of a head, and of a body in one of the `parts`; `sent` went of them. */
static bool keep_rest(struct conn *c, const struct iovec *parts, size_t count, size_t head_length, size_t sent) {
    size_t length = 0;
    for (size_t k = 0; k < count; k++)
        length += parts[k].iov_len;
    char *rest = malloc(length - sent);
    if (rest == NULL)
        return false;
    c->fields = rest;
    c->fields_length = length - sent;
    c->head_rest = sent < head_length ? head_length - sent : 0;
    for (size_t k = 0; k < count; k++) {
        size_t skip = sent < parts[k].iov_len ? sent : parts[k].iov_len;
        memcpy(rest, (char *)parts[k].iov_base + skip, parts[k].iov_len - skip);
        rest += parts[k].iov_len - skip;
        sent -= skip;
    }
    return true;
}

/* Plan the body, and say which bytes of it leave with the head. False: ask the application. */
static bool plan_body(struct conn *c, const struct answer *answer, struct iovec *with_head) {
    *with_head = (struct iovec){0};
    plan_drop(c);
    c->may_wait = false;
    if (answer->has_body)
        *with_head = (struct iovec){(char *)answer->text + answer->request_length + answer->lines_length,
                                    answer->body_length};
    if (answer->file == NULL || !answer->is_of_file)
        return answer->file == NULL || file_is_unchanged(answer->file);
    if (plan_file(c, answer->file, answer->offset, answer->body_length) != READ_DONE)
        return false;
    *with_head = plan_small_body(&c->plan);
    return true;
}

static enum repeat give(struct conn *c, struct answer *answer) {
    char made[192];
    char corr_id[CORR_ID_BYTES];
    struct iovec body;
    bool is_over = answer->until_ns != 0 && c->since_ns >= answer->until_ns;
    fields_drop(c);
    if (is_over || !plan_body(c, answer, &body)) {
        forget(answer);
        return REPEAT_NO;
    }
    answer->was_used = true;
    mind_the_crowd(c);
    guard.counters.requests++;
    c->arrived_ns = c->since_ns;
    answer_begin(c);
    c->answer_left = answer->body_length;
    c->wants_close = guard.is_closing;
    c->is_head_request = c->is_http10 = false;
    corr_id_new(corr_id, sizeof corr_id);
    char *end = put_date(made);
    end = stpcpy(end, "\r\nX-Corr-ID: ");
    end = stpcpy(end, corr_id);
    end = stpcpy(end, c->wants_close ? ENDING_CLOSE : ENDING_KEEP);
    struct iovec parts[3] = {{answer->text + answer->request_length, answer->lines_length}, {made, (size_t)(end - made)}, body};
    size_t head_length = parts[0].iov_len + parts[1].iov_len;
    bool is_body_later = c->plan.left > body.iov_len;
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2 + (body.iov_len > 0)};
    ssize_t sent = sendmsg(fd_of(c), &message, MSG_NOSIGNAL | (is_body_later ? MSG_MORE : 0));
    int64_t latency_ns = now_ns() - c->arrived_ns;
    count(answer, latency_ns, answer->body_length);
    sample(c, answer, corr_id, latency_ns);
    if (sent < 0 && errno != EAGAIN)
        return finish(c, false);
    size_t taken = sent < 0 ? 0 : (size_t)sent, of_body = taken > head_length ? taken - head_length : 0;
    if (c->plan.kind != PLAN_NONE)
        plan_advance(c, of_body);
    else
        account(c, of_body);
    size_t kept = c->plan.kind == PLAN_NONE ? 3 : 2; /* a body without a plan is kept with the head */
    size_t owed = head_length + (kept == 3 ? body.iov_len : 0);
    if (taken < owed && !keep_rest(c, parts, kept, head_length, taken))
        return finish(c, false);
    return go_on(c);
}

/* Others first; what is left of a pipeline goes on when the socket, which is, is found writable. */
void repeat_pause(struct conn *c) {
    (void)wait(c);
}

bool repeat_is_enough(unsigned answers) {
    return answers >= ANSWERS_A_TURN;
}

static struct answer *find_first(const char *in, size_t n, size_t *length) {
    static const char END[] = "\r\n\r\n";
    *length = n;
    bool may_be_one = n > 4 && n <= WHOLE_BYTES && memcmp(in + n - 4, END, 4) == 0;
    struct answer *answer = may_be_one ? find(in, n) : NULL;
    if (answer != NULL)
        return answer;
    const char *end = memmem(in, n, END, 4);
    if (end == NULL || (may_be_one && end + 4 == in + n))
        return NULL;
    *length = (size_t)(end - in) + 4;
    return find(in, *length);
}

enum repeat repeat_try(struct conn *c, const char *in, size_t n, size_t *used) {
    if (memory.newest == NULL || c->watcher == NULL)
        return REPEAT_NO;
    struct answer *answer = find_first(in, n, used);
    if (answer == NULL)
        return REPEAT_NO;
    enum conn_state before = c->state;
    conn_enter(c, CONN_BUSY);
    enum repeat done = is_pressed(c) ? REPEAT_NO : give(c, answer);
    if (done == REPEAT_NO)
        conn_enter(c, before);
    return done;
}
