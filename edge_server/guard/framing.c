/* Framing: request heads and chunked bodies. See framing.h.
 *
 * A head is judged twice at most. `parse_head` reads a complete one in a single pass; it relies on
 * the CR LF CR LF that its input ends with as a sentinel, so its loops need no other bound. `arrive`
 * looks at the lines of an incomplete one as they come, to refuse early, and has the last word:
 * what `parse_head` refuses at once is put to `arrive` first, so that the reason does not depend on
 * how the bytes were cut.
 */
#include "framing.h"

#include <stdbool.h>
#include <string.h>

#define LONGEST_METHOD 32  /* of any method at all; bjoern's longest has 11 */
#define EMPTY_LINES 4      /* RFC 9112 section 2.2: at least one CRLF before the request line is ignored */
#define OPTIONS 32         /* named in Connection; bounds options times fields */
#define LONGEST_CORR_ID 128
#define LONGEST_CHUNK_SIZE 16
#define EXTENSION_BYTES 4096 /* of all chunks together: they are hidden from the cap on content */
#define TRAILER_BYTES 8192

enum class {
    TOKEN = 1,      /* RFC 9110 section 5.6.2: tchar */
    HYPHENED = 2,   /* as TOKEN, but "_" */
    PATH = 4,       /* RFC 3986 section 3.3: pchar but "%", and "/" */
    QUERY = 8,      /* RFC 3986 section 3.4: as PATH, and "?" */
    VALUE = 16,     /* RFC 9110 section 5.5: HTAB, SP, VCHAR, obs-text */
    HOST = 32,      /* RFC 3986 section 3.2.2: reg-name but "%" */
    HEX = 64,
    CORR_ID = 128,  /* letters, digits, ". _ : -" */
};

/* Deviation: PATH also has [ ] | ^ and QUERY { } \ ` too, which RFC 3986 has escaped and browsers send as they
 * are (a variable font is called "Name[wght].ttf"). None of them means anything to bjoern's parser. */
static const unsigned char CLASSES[256] = {
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* 00 */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* 10 */
    0x10, 0x3f, 0x10, 0x13, 0x3f, 0x13, 0x3f, 0x3f, 0x3c, 0x3c, 0x3f, 0x3f, 0x3c, 0xbf, 0xbf, 0x1c, /* 20 */
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x9c, 0x3c, 0x10, 0x3c, 0x10, 0x18, /* 30 */
    0x1c, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, /* 40 */
    0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0x1c, 0x18, 0x1c, 0x1f, 0xbd, /* 50 */
    0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, /* 60 */
    0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0x18, 0x1f, 0x18, 0x3f, 0x00, /* 70 */
    0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, /* 80 */
    0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, /* 90 */
    0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, /* a0 */
    0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, /* b0 */
    0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, /* c0 */
    0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, /* d0 */
    0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, /* e0 */
    0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, /* f0 */
};

static unsigned class_of(char c)
{
    return CLASSES[(unsigned char)c];
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* `lower` has letters, digits and "-". Of the bytes that a value may have, setting bit 5 maps none onto one of
 * these but its upper case. */
static bool is_name(const char *name, const char *lower, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if ((name[i] | 0x20) != lower[i])
            return false;
    return true;
}

static bool is_word(const char *start, const char *stop, const char *lower)
{
    const size_t length = strlen(lower);
    return (size_t)(stop - start) == length && is_name(start, lower, length);
}

static bool is_all(const char *start, const char *stop, unsigned kinds)
{
    while (start < stop && (class_of(*start) & kinds))
        start++;
    return start == stop;
}

/* ---- hosts ---- */

/* RFC 3986 section 3.2.2: IPv4address */
static bool is_ipv4(const char *p, const char *stop)
{
    for (int octets = 1;; octets++) {
        const char *const start = p;
        int value = 0;
        while (p < stop && is_digit(*p) && p - start < 3)
            value = value * 10 + (*p++ - '0');
        if (p == start || value > 255 || (*start == '0' && p - start > 1))
            return false;
        if (octets == 4)
            return p == stop;
        if (p == stop || *p++ != '.')
            return false;
    }
}

/* RFC 3986 section 3.2.2: IPv6address. No zone, no IPvFuture: nothing that serves HTTP is called so. */
static bool is_ipv6(const char *p, const char *stop)
{
    int groups = 0;
    bool is_elided = false;
    if (stop - p >= 2 && p[0] == ':' && p[1] == ':') {
        is_elided = true;
        p += 2;
    }
    while (p < stop) {
        const char *const start = p;
        while (p < stop && (class_of(*p) & HEX) && p - start < 4)
            p++;
        if (p < stop && *p == '.') {
            groups += 2;
            return (is_elided ? groups <= 7 : groups == 8) && is_ipv4(start, stop);
        }
        if (p == start || ++groups > 8)
            return false;
        if (p == stop)
            break;
        if (*p++ != ':' || p == stop)
            return false;
        if (*p == ':') {
            if (is_elided)
                return false;
            is_elided = true;
            p++;
        }
    }
    return is_elided ? groups <= 7 : groups == 8;
}

/* RFC 9110 section 7.2: Host = uri-host [ ":" port ]. An empty host cannot be one of http (section 4.2.1). */
static bool is_host(const char *p, const char *stop)
{
    const char *const start = p;
    if (p < stop && *p == '[') {
        const char *const close = memchr(p, ']', (size_t)(stop - p));
        if (close == NULL || !is_ipv6(p + 1, close))
            return false;
        p = close + 1;
    } else {
        for (; p < stop && *p != ':'; p++) {
            if (class_of(*p) & HOST)
                continue;
            if (*p != '%' || stop - p < 3 || !is_all(p + 1, p + 3, HEX))
                return false;
            p += 2;
        }
        if (p == start)
            return false;
    }
    if (p == stop)
        return true;
    if (*p++ != ':' || stop - p > 5)
        return false;
    long port = 0;
    for (; p < stop; p++) {
        if (!is_digit(*p))
            return false;
        port = port * 10 + (*p - '0');
    }
    return port <= 65535;
}

/* ---- request line ---- */

/* What bjoern's http_parser knows, without CONNECT. */
static const struct {
    unsigned char length;
    char name[12];
} METHODS[] = {
    {3, "GET"},       {4, "HEAD"},      {7, "OPTIONS"},   {4, "POST"},      {3, "PUT"},    {6, "DELETE"},
    {5, "PATCH"},     {5, "TRACE"},     {4, "COPY"},      {4, "LOCK"},      {5, "MKCOL"},  {4, "MOVE"},
    {8, "PROPFIND"},  {9, "PROPPATCH"}, {6, "UNLOCK"},    {6, "REPORT"},    {10, "MKACTIVITY"},
    {8, "CHECKOUT"},  {5, "MERGE"},     {8, "M-SEARCH"},  {6, "NOTIFY"},    {9, "SUBSCRIBE"},
    {11, "UNSUBSCRIBE"},
};

struct request_line {
    const char *method, *method_stop;
    const char *authority, *authority_stop; /* of absolute-form, else NULL */
    const char *path, *path_stop;           /* empty: "/", or "*" for OPTIONS without a query */
    const char *query, *query_stop;         /* after the "?"; NULL without one */
    const char *stop;                       /* past the line's CR LF */
    bool is_http10, is_options, is_known;
};

static void name_method(struct request_line *line)
{
    const size_t length = (size_t)(line->method_stop - line->method);
    line->is_known = false;
    for (size_t i = 0; i < sizeof METHODS / sizeof *METHODS && !line->is_known; i++)
        line->is_known = METHODS[i].length == length && memcmp(METHODS[i].name, line->method, length) == 0;
    line->is_options = length == 7 && memcmp(line->method, "OPTIONS", 7) == 0;
}

/* RFC 3986 section 2.1: "%" HEXDIG HEXDIG. Returns the first byte that is none of it; NULL if a "%" stands alone:
 * bjoern would decode it to nothing. */
static const char *skip_escaped(const char *p, unsigned kinds)
{
    for (;;) {
        while (class_of(*p) & kinds)
            p++;
        if (*p != '%')
            return p;
        if (!(class_of(p[1]) & HEX) || !(class_of(p[2]) & HEX))
            return NULL;
        p += 3;
    }
}

/* RFC 9110 section 4.2: http-URI, https-URI. Returns where the authority starts, or NULL. */
static const char *skip_scheme(const char *p)
{
    for (const char *lower = "http"; *lower != '\0'; lower++, p++)
        if (*p != *lower && *p != *lower - 0x20)
            return NULL;
    if (*p == 's' || *p == 'S')
        p++;
    for (const char *rest = "://"; *rest != '\0'; rest++, p++)
        if (*p != *rest)
            return NULL;
    return p;
}

/* RFC 9112 section 3.2. Returns the byte after the target, or NULL. */
static const char *parse_target(const char *p, struct request_line *line)
{
    line->authority = line->authority_stop = line->query = line->query_stop = NULL;
    if (*p == '*') {
        line->path = p;
        line->path_stop = p + 1;
        return line->is_options ? p + 1 : NULL;
    }
    if (*p != '/') {
        line->authority = p = skip_scheme(p);
        if (p == NULL)
            return NULL;
        /* Userinfo is no host: RFC 9110 section 4.2.4 calls it an error. */
        while ((class_of(*p) & HOST) || *p == '%' || *p == ':' || *p == '[' || *p == ']')
            p++;
        line->authority_stop = p;
        if (!is_host(line->authority, p) || (*p != '/' && *p != '?' && *p != ' '))
            return NULL;
    }
    line->path = p;
    if ((p = skip_escaped(p, PATH)) == NULL)
        return NULL;
    line->path_stop = p;
    if (*p == '?') {
        line->query = ++p;
        if ((p = skip_escaped(p, QUERY)) == NULL)
            return NULL;
        line->query_stop = p;
    }
    return p;
}

/* RFC 9112 section 3: method SP request-target SP HTTP-version CRLF. The input holds a CR LF. */
static enum framing_reason parse_request_line(const char *p, const struct framing_limits *limits,
                                              struct request_line *line)
{
    line->method = p;
    while (class_of(*p) & TOKEN)
        p++;
    line->method_stop = p;
    if (p == line->method || p - line->method > LONGEST_METHOD || *p++ != ' ')
        return FRAMING_BAD_REQUEST;
    name_method(line);
    const bool is_connect = p - line->method == 8 && memcmp(line->method, "CONNECT", 7) == 0;
    const char *const target = p;
    /* CONNECT will be refused for its method, so its authority-form need not be one. */
    p = is_connect ? skip_escaped(p, QUERY) : parse_target(p, line);
    if (p == NULL || p == target || *p != ' ')
        return FRAMING_BAD_REQUEST;
    if ((size_t)(p++ - target) > limits->target_bytes)
        return FRAMING_URI_CAP;
    for (const char *name = "HTTP/"; *name != '\0'; name++, p++)
        if (*p != *name)
            return FRAMING_BAD_REQUEST;
    if (!is_digit(p[0]) || p[1] != '.' || !is_digit(p[2]) || p[3] != '\r' || p[4] != '\n')
        return FRAMING_BAD_REQUEST;
    if (p[0] != '1' || p[2] > '1')
        return FRAMING_HTTP_VERSION;
    line->is_http10 = p[2] == '0';
    line->stop = p + 5;
    return FRAMING_OK;
}

/* ---- fields ---- */

enum field_id {
    ANY_FIELD,     /* repeated: joined with ", " (RFC 9110 section 5.3) */
    COOKIE,        /* repeated: joined with "; " (RFC 9113 section 8.2.3) */
    HOP_BY_HOP,    /* not passed on */
    UNDERSCORED,   /* not passed on: WSGI could not tell it from the name with "-" */
    CONNECTION,
    EXPECT,
    TRANSFER_ENCODING,
    CONTENT_LENGTH,
    FIRST_SINGLE,  /* from here on: repeated is refused */
    HOST_FIELD = FIRST_SINGLE,
    CORR_ID_FIELD,
    RANGE,
    IF_RANGE,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    CONTENT_TYPE,
    ORIGIN,
    PREFLIGHT_METHOD,
};

#define BIT(id) (1u << (id))

struct field {
    const char *name, *value, *value_stop;
    const char *stop; /* past the line's CR LF */
    size_t name_length;
    enum field_id id;
    bool is_tidy;         /* the line is in normal form as it stands */
    bool is_left_out;     /* not passed on, or joined to an earlier one */
    unsigned char next;   /* the next one of this name; 0: none, as the first field is nobody's next */
    unsigned char last;   /* of the first of a name: the last one so far */
};

static enum field_id when(const char *name, const char *lower, size_t length, enum field_id id)
{
    return is_name(name, lower, length) ? id : ANY_FIELD;
}

static enum field_id identify(const char *name, size_t length)
{
    const int first = name[0] | 0x20;
    switch (length) {
    case 2:
        return when(name, "te", 2, HOP_BY_HOP);
    case 4:
        return when(name, "host", 4, HOST_FIELD);
    case 5:
        return when(name, "range", 5, RANGE);
    case 6:
        return first == 'c'   ? when(name, "cookie", 6, COOKIE)
               : first == 'o' ? when(name, "origin", 6, ORIGIN)
                              : when(name, "expect", 6, EXPECT);
    case 7:
        return first == 'u' ? when(name, "upgrade", 7, HOP_BY_HOP) : when(name, "trailer", 7, HOP_BY_HOP);
    case 8:
        return when(name, "if-range", 8, IF_RANGE);
    case 9:
        return when(name, "x-corr-id", 9, CORR_ID_FIELD);
    case 10:
        return first == 'c' ? when(name, "connection", 10, CONNECTION) : when(name, "keep-alive", 10, HOP_BY_HOP);
    case 12:
        return when(name, "content-type", 12, CONTENT_TYPE);
    case 13:
        return when(name, "authorization", 13, AUTHORIZATION);
    case 14:
        return first == 'c' ? when(name, "content-length", 14, CONTENT_LENGTH)
                            : when(name, "http2-settings", 14, HOP_BY_HOP);
    case 16:
        return when(name, "proxy-connection", 16, HOP_BY_HOP);
    case 17:
        return first == 't' ? when(name, "transfer-encoding", 17, TRANSFER_ENCODING)
                            : when(name, "if-modified-since", 17, IF_MODIFIED_SINCE);
    case 19:
        return first == 'p' ? when(name, "proxy-authorization", 19, PROXY_AUTHORIZATION)
                            : when(name, "if-unmodified-since", 19, IF_UNMODIFIED_SINCE);
    case 29:
        return when(name, "access-control-request-method", 29, PREFLIGHT_METHOD);
    default:
        return ANY_FIELD;
    }
}

/* Returns the first byte that is not of a field value, at most the CR of the sentinel.
 * PERF: eight bytes a step; three quarters of a browser's head are values. bench_framing.c. */
static const char *skip_value(const char *p, const char *stop)
{
    const uint64_t ones = UINT64_MAX / 255, highs = ones * 0x80;
    for (; stop - p >= 8; p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        const uint64_t rubouts = word ^ ones * 0x7f;
        /* The lowest high bit stands at the first byte below SP or equal to DEL; those above it may be wrong. */
        const uint64_t hits = (((word - ones * 0x20) & ~word) | ((rubouts - ones) & ~rubouts)) & highs;
        if (hits == 0)
            continue;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        p += __builtin_ctzll(hits) / 8;
#endif
        break;
    }
    while (class_of(*p) & VALUE)
        p++;
    return p;
}

/* RFC 9112 section 5: field-name ":" OWS field-value OWS CRLF. No space before the colon, no obs-fold.
 * The line ends in CR LF before `stop`. Returns whether it is one. */
static bool parse_field(const char *p, const char *stop, struct field *field)
{
    field->name = p;
    while (class_of(*p) & HYPHENED)
        p++;
    const bool is_hyphened = *p != '_';
    while (class_of(*p) & TOKEN)
        p++;
    field->name_length = (size_t)(p - field->name);
    if (p == field->name || *p++ != ':')
        return false;
    const char *const after_colon = p;
    while (is_space(*p))
        p++;
    field->value = p;
    p = skip_value(p, stop);
    if (p[0] != '\r' || p[1] != '\n')
        return false;
    field->stop = p + 2;
    while (p > field->value && is_space(p[-1]))
        p--;
    field->value_stop = p;
    field->is_tidy = field->stop == p + 2 && (field->value == after_colon ||
                                              (field->value == after_colon + 1 && *after_colon == ' '));
    field->id = is_hyphened ? identify(field->name, field->name_length) : UNDERSCORED;
    field->is_left_out = field->id >= HOP_BY_HOP && field->id < FIRST_SINGLE;
    field->next = 0;
    return true;
}

/* ---- a whole head ---- */

struct request {
    struct request_line line;
    uint64_t names[4]; /* a set of hashes: a name that is not in it is new */
    unsigned present, repeated, count;
    struct field fields[FRAMING_MAX_FIELDS];
};

static bool is_same_name(const struct field *field, const char *name, size_t length)
{
    if (field->name_length != length)
        return false;
    for (size_t i = 0; i < length; i++) {
        const unsigned char a = (unsigned char)field->name[i], b = (unsigned char)name[i];
        if (a == b)
            continue;
        const unsigned char lower = a | 0x20;
        if (lower != (b | 0x20) || lower < 'a' || lower > 'z')
            return false;
    }
    return true;
}

static unsigned hash_name(const char *name, size_t length)
{
    const unsigned first = (unsigned char)name[0] | 0x20u;
    const unsigned inner = (unsigned char)name[length - (length > 3 ? 3 : 1)] | 0x20u;
    const unsigned last = (unsigned char)name[length - 1] | 0x20u;
    return ((unsigned)length * 37u + first * 5u + inner * 29u + last * 11u) & 255u;
}

/* Join the newest field to an earlier one of its name. Time: the names before it, and only if their hashes meet. */
static void link_repeated(struct request *request)
{
    struct field *const newest = &request->fields[request->count];
    const unsigned hash = hash_name(newest->name, newest->name_length);
    uint64_t *const word = &request->names[hash >> 6];
    newest->last = (unsigned char)request->count;
    if (*word >> (hash & 63) & 1) {
        for (unsigned i = 0; i < request->count; i++) {
            struct field *const first = &request->fields[i];
            if (first->is_left_out || !is_same_name(first, newest->name, newest->name_length))
                continue;
            request->fields[first->last].next = (unsigned char)request->count;
            first->last = (unsigned char)request->count;
            first->is_tidy = false;
            newest->is_left_out = true;
            return;
        }
    }
    *word |= UINT64_C(1) << (hash & 63);
}

/* Returns the blank line, or NULL where a line is no field or there are too many. */
static const char *parse_fields(const char *p, const char *stop, const struct framing_limits *limits,
                                struct request *request)
{
    const unsigned most = limits->fields < FRAMING_MAX_FIELDS ? limits->fields : FRAMING_MAX_FIELDS;
    request->count = 0;
    request->present = request->repeated = 0;
    memset(request->names, 0, sizeof request->names);
    for (; *p != '\r'; p = request->fields[request->count++].stop) {
        struct field *const field = &request->fields[request->count];
        if (request->count == most || !parse_field(p, stop, field))
            return NULL;
        request->repeated |= request->present & BIT(field->id);
        request->present |= BIT(field->id);
        if (field->id <= COOKIE)
            link_repeated(request);
    }
    return p[1] == '\n' ? p : NULL;
}

static const struct field *find_field(const struct request *request, enum field_id id)
{
    if (!(request->present & BIT(id)))
        return NULL;
    const struct field *field = request->fields;
    while (field->id != id)
        field++;
    return field;
}

/* RFC 9112 section 3.2: 1.1 has exactly one Host, also beside absolute-form. */
static bool is_host_right(const struct request *request)
{
    const struct field *const host = find_field(request, HOST_FIELD);
    return host == NULL ? request->line.is_http10 : is_host(host->value, host->value_stop);
}

/* RFC 9110 section 8.6: 1*DIGIT. The list of equal values that the section lets pass is refused. */
static enum framing_reason parse_content_length(const struct request *request, uint64_t most,
                                                struct framing_head *head)
{
    const struct field *const field = find_field(request, CONTENT_LENGTH);
    uint64_t length = 0;
    bool is_over = false;
    if (field == NULL)
        return FRAMING_OK;
    if (field->value == field->value_stop || (request->repeated & BIT(CONTENT_LENGTH)))
        return FRAMING_BAD_REQUEST;
    for (const char *p = field->value; p < field->value_stop; p++) {
        if (!is_digit(*p))
            return FRAMING_BAD_REQUEST;
        const unsigned digit = (unsigned)(*p - '0');
        is_over = is_over || length > (UINT64_MAX - digit) / 10;
        length = length * 10 + digit;
    }
    head->content_length = is_over ? UINT64_MAX : length;
    return is_over || length > most ? FRAMING_BODY_CAP : FRAMING_OK;
}

struct element {
    const char *start, *stop;
    const char *rest; /* NULL after the last one */
};

/* The elements of a comma-separated list (RFC 9110 section 5.6.1), empty ones too; false at the end. Start with
 * `rest` at the value. */
static bool next_element(struct element *element, const char *value_stop)
{
    if (element->rest == NULL)
        return false;
    const char *const comma = memchr(element->rest, ',', (size_t)(value_stop - element->rest));
    element->start = element->rest;
    element->stop = comma == NULL ? value_stop : comma;
    element->rest = comma == NULL ? NULL : comma + 1;
    while (element->start < element->stop && is_space(*element->start))
        element->start++;
    while (element->stop > element->start && is_space(element->stop[-1]))
        element->stop--;
    return true;
}

/* RFC 9112 sections 6.1 and 6.3: chunked, once and last. Other codings are not implemented; chunked elsewhere,
 * with parameters or twice, and what is no token, would leave the end of the body to interpretation. */
static enum framing_reason parse_transfer_encoding(const struct request *request, struct framing_head *head)
{
    unsigned codings = 0, chunked = 0;
    bool is_last = false;
    if (!(request->present & BIT(TRANSFER_ENCODING)))
        return FRAMING_OK;
    if (request->line.is_http10 || (request->present & BIT(CONTENT_LENGTH)))
        return FRAMING_BAD_REQUEST;
    for (unsigned i = 0; i < request->count; i++) {
        const struct field *const field = &request->fields[i];
        struct element element = {.rest = field->value};
        while (field->id == TRANSFER_ENCODING && next_element(&element, field->value_stop)) {
            if (element.start == element.stop || !(class_of(*element.start) & TOKEN))
                return FRAMING_BAD_REQUEST;
            const char *token_stop = element.start;
            while (token_stop < element.stop && (class_of(*token_stop) & TOKEN))
                token_stop++;
            is_last = is_word(element.start, token_stop, "chunked");
            if (token_stop != element.stop && (is_last || (*token_stop != ';' && !is_space(*token_stop))))
                return FRAMING_BAD_REQUEST;
            codings++;
            chunked += is_last;
        }
    }
    if (chunked > 1 || (chunked == 1 && !is_last))
        return FRAMING_BAD_REQUEST;
    head->is_chunked = chunked == 1 && codings == 1;
    return head->is_chunked ? FRAMING_OK : FRAMING_NOT_IMPLEMENTED;
}

/* RFC 9110 section 10.1.1; from HTTP/1.0 it is ignored. */
static enum framing_reason parse_expect(const struct request *request, struct framing_head *head)
{
    if (request->line.is_http10 || !(request->present & BIT(EXPECT)))
        return FRAMING_OK;
    for (unsigned i = 0; i < request->count; i++) {
        const struct field *const field = &request->fields[i];
        if (field->id == EXPECT && !is_word(field->value, field->value_stop, "100-continue"))
            return FRAMING_EXPECTATION;
    }
    head->expects_continue = head->is_chunked || head->content_length > 0;
    return FRAMING_OK;
}

/* RFC 9110 section 7.6.1: a sender must not nominate what is meant for every recipient. Who does so anyway, or whose
 * request passed a proxy that was made to, does not get a validator, a credential or an address taken out. */
static bool is_protected(const struct field *field)
{
    static const char *const prefixes[] = {"accept", "access-control-", "content-", "if-", "sec-", "x-forwarded-"};
    static const char *const names[] = {"cache-control", "forwarded", "pragma",     "referer",  "traceparent",
                                        "tracestate",    "user-agent", "via", "x-real-ip"};
    if (field->id != ANY_FIELD)
        return true;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (field->name_length >= strlen(prefixes[i]) && is_name(field->name, prefixes[i], strlen(prefixes[i])))
            return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is_word(field->name, field->name + field->name_length, names[i]))
            return true;
    return false;
}

static void leave_out(struct request *request, const struct element *option)
{
    for (unsigned i = 0; i < request->count; i++) {
        struct field *const field = &request->fields[i];
        if (field->is_left_out || !is_same_name(field, option->start, (size_t)(option->stop - option->start)))
            continue;
        field->is_left_out = !is_protected(field);
        return;
    }
}

/* RFC 9112 section 9.3. An option that is no token might be meant as anything: the connection is closed. */
static enum framing_reason parse_connection(struct request *request, struct framing_head *head)
{
    bool closes = false, keeps = false;
    unsigned options = 0;
    for (unsigned i = 0; i < request->count && (request->present & BIT(CONNECTION)); i++) {
        const struct field *const field = &request->fields[i];
        struct element option = {.rest = field->value};
        while (field->id == CONNECTION && next_element(&option, field->value_stop)) {
            if (option.start == option.stop)
                continue;
            if (++options > OPTIONS)
                return FRAMING_BAD_REQUEST;
            if (!is_all(option.start, option.stop, TOKEN) || is_word(option.start, option.stop, "close"))
                closes = true;
            else if (is_word(option.start, option.stop, "keep-alive"))
                keeps = true;
            else
                leave_out(request, &option);
        }
    }
    head->wants_close = closes || (request->line.is_http10 && !keeps);
    return FRAMING_OK;
}

static void note_corr_id(const struct request *request, const char *in, struct framing_head *head)
{
    const struct field *const field = find_field(request, CORR_ID_FIELD);
    if (field == NULL || field->value_stop - field->value > LONGEST_CORR_ID ||
        !is_all(field->value, field->value_stop, CORR_ID))
        return;
    head->corr_id.start = (size_t)(field->value - in);
    head->corr_id.stop = (size_t)(field->value_stop - in);
}

/* What the fields mean together. The first of these that fails is the reason. */
static enum framing_reason settle(struct request *request, const struct framing_limits *limits,
                                  struct framing_head *head)
{
    enum framing_reason reason;
    if (request->repeated >> FIRST_SINGLE || !is_host_right(request))
        return FRAMING_BAD_REQUEST;
    if ((reason = parse_connection(request, head)) != FRAMING_OK)
        return reason;
    if ((reason = parse_transfer_encoding(request, head)) != FRAMING_OK)
        return reason;
    if ((reason = parse_content_length(request, limits->body_bytes, head)) != FRAMING_OK)
        return reason;
    if ((reason = parse_expect(request, head)) != FRAMING_OK)
        return reason;
    return request->line.is_known ? FRAMING_OK : FRAMING_METHOD;
}

/* ---- the normal form ----
 *
 * Output is at most FRAMING_GROWTH = 4 bytes longer than the head it is made of:
 *  - the request line keeps its length, but for the target: origin-form grows by at most 2 ("%3F" for "?");
 *    absolute-form loses scheme and authority (a bytes), at least 7 + a, gains at most 1 ("/") + 2 ("%3F"), and
 *    "Host: " authority CR LF, a + 8: together 4 more. A Host field that was sent is left out, which takes away.
 *  - a tidy line is copied. An untidy one has at least one byte of OWS too many, and gets back one at most.
 *  - of joined lines, each but the first spends at least a name and ":" and CR LF, 4 bytes, and gets ", ", 2 bytes;
 *    the first may gain the space after its colon, which the second has paid for.
 *  - what is left out, and empty lines before the head, only take away.
 */

static char *put(char *out, const char *start, const char *stop)
{
    memcpy(out, start, (size_t)(stop - start));
    return out + (stop - start);
}

static char *put_text(char *out, const char *text, size_t length)
{
    memcpy(out, text, length);
    return out + length;
}

#define PUT(out, literal) put_text(out, literal, sizeof(literal) - 1)

static char *put_request_line(char *out, const struct request_line *line)
{
    out = put(out, line->method, line->method_stop);
    if (line->path < line->path_stop) {
        *out++ = ' ';
        out = put(out, line->path, line->path_stop);
    } else {
        /* RFC 9112 section 3.2.4: OPTIONS of a URI without path and query asks for the server itself. */
        out = line->is_options && line->query == NULL ? PUT(out, " *") : PUT(out, " /");
    }
    if (line->query != NULL) {
        *out++ = '?';
        const char *query = line->query;
        /* http_parser drops every "?" that a query starts with. */
        if (query < line->query_stop && *query == '?') {
            out = PUT(out, "%3F");
            query++;
        }
        out = put(out, query, line->query_stop);
    }
    out = PUT(out, " HTTP/1.1\r\n");
    if (line->authority == NULL)
        return out;
    /* RFC 9112 section 3.2.2: the target's authority replaces Host. */
    out = PUT(out, "Host: ");
    out = put(out, line->authority, line->authority_stop);
    return PUT(out, "\r\n");
}

static char *put_untidy(char *out, const struct request *request, const struct field *field)
{
    const char *const separator = field->id == COOKIE ? "; " : ", ";
    bool is_empty = true;
    out = put(out, field->name, field->name + field->name_length);
    out = PUT(out, ": ");
    for (;;) {
        if (field->value < field->value_stop) {
            if (!is_empty)
                out = put_text(out, separator, 2);
            out = put(out, field->value, field->value_stop);
            is_empty = false;
        }
        if (field->next == 0)
            return PUT(out, "\r\n");
        field = &request->fields[field->next];
    }
}

/* PERF: neighbours that are tidy are copied as one block; most heads are two or three blocks. bench_framing.c. */
static char *put_fields(char *out, const struct request *request)
{
    const char *block = NULL, *block_stop = NULL;
    for (unsigned i = 0; i < request->count; i++) {
        const struct field *const field = &request->fields[i];
        if (field->is_left_out || (field->id == HOST_FIELD && request->line.authority != NULL))
            continue;
        if (field->is_tidy && field->name == block_stop) {
            block_stop = field->stop;
            continue;
        }
        if (block != NULL)
            out = put(out, block, block_stop);
        block = block_stop = NULL;
        if (field->is_tidy) {
            block = field->name;
            block_stop = field->stop;
        } else {
            out = put_untidy(out, request, field);
        }
    }
    if (block != NULL)
        out = put(out, block, block_stop);
    return PUT(out, "\r\n");
}

static const char *skip_empty_lines(const char *p, const char *stop)
{
    for (int lines = 0; lines < EMPTY_LINES && stop - p >= 2 && p[0] == '\r' && p[1] == '\n'; lines++)
        p += 2;
    return p;
}

/* Reads the head at the start of `in`, which ends with CR LF CR LF: this head's or a later one's. */
static enum framing_reason parse_head(const char *in, size_t length, const struct framing_limits *limits, char *out,
                                      struct framing_head *head)
{
    struct request request; /* PERF: 6 KiB that are not cleared */
    const char *const stop = in + length;
    const char *p = skip_empty_lines(in, stop);
    if (p == stop)
        return FRAMING_BAD_REQUEST;
    enum framing_reason reason = parse_request_line(p, limits, &request.line);
    if (reason != FRAMING_OK)
        return reason;
    p = parse_fields(request.line.stop, stop, limits, &request);
    if (p == NULL)
        return FRAMING_BAD_REQUEST;
    head->consumed = (size_t)(p + 2 - in);
    head->is_http10 = request.line.is_http10;
    head->is_head = memcmp(request.line.method, "HEAD ", 5) == 0;
    note_corr_id(&request, in, head);
    reason = settle(&request, limits, head);
    if (reason == FRAMING_OK)
        head->length = (size_t)(put_fields(put_request_line(out, &request.line), &request) - out);
    return reason;
}

/* ---- arrival ---- */

/* The bytes [from, to) of a request line that starts at `line`. Each is looked at once, but for the method. */
static enum framing_reason check_request_line(const char *line, size_t from, size_t to, size_t target_bytes)
{
    const char *const space = memchr(line, ' ', to < LONGEST_METHOD + 1 ? to : LONGEST_METHOD + 1);
    const size_t method_stop = space == NULL ? to : (size_t)(space - line);
    const size_t most = target_bytes < FRAMING_MAX_HEAD ? target_bytes : FRAMING_MAX_HEAD;
    const size_t over = method_stop + 1 + most; /* where a target of that length has ended */
    size_t i = from;
    for (; i < to; i++) {
        const unsigned char c = (unsigned char)line[i];
        if (i > 0 && line[i - 1] == '\r' ? c != '\n' : c == '\n')
            break;
        if (i < method_stop && (!(class_of(line[i]) & TOKEN) || i == LONGEST_METHOD))
            break;
        if ((c < ' ' || c > '~') && c != '\r' && c != '\n')
            break;
    }
    if (space != NULL && from <= over && over < i && line[over] != ' ' && line[over] != '\r' &&
        memchr(space + 1, ' ', most) == NULL)
        return FRAMING_URI_CAP;
    return i == to ? FRAMING_OK : FRAMING_BAD_REQUEST;
}

static bool are_field_bytes(const char *line, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        const bool after_cr = i > 0 && line[i - 1] == '\r';
        if (after_cr != (line[i] == '\n') || (!(class_of(line[i]) & VALUE) && line[i] != '\r' && line[i] != '\n'))
            return false;
    }
    return true;
}

/* A line of the head that is complete. */
static enum framing_reason check_line(const char *line, size_t length, const struct framing_scan *scan,
                                      const struct framing_limits *limits)
{
    const unsigned most = limits->fields < FRAMING_MAX_FIELDS ? limits->fields : FRAMING_MAX_FIELDS;
    struct request_line request_line;
    struct field field;
    if (scan->lines == 0)
        return parse_request_line(line, limits, &request_line);
    if (!parse_field(line, line + length, &field))
        return FRAMING_BAD_REQUEST;
    return scan->lines > most ? FRAMING_HEADER_CAP : FRAMING_OK;
}

/* Look at the bytes that are new. `*head_stop` is set past the blank line once that has come. */
static enum framing_reason arrive(const char *in, size_t length, struct framing_scan *scan,
                                  const struct framing_limits *limits, size_t *head_stop)
{
    enum framing_reason reason = FRAMING_OK;
    while (scan->scanned < length && reason == FRAMING_OK) {
        const char *const line = in + scan->line;
        const char *const lf = memchr(in + scan->scanned, '\n', length - scan->scanned);
        const size_t stop = lf == NULL ? length : (size_t)(lf - in) + 1;
        const size_t line_length = stop - scan->line;
        const size_t from = scan->scanned - scan->line;
        scan->scanned = stop;
        const bool is_leading = scan->lines == 0 && *line == '\r' && scan->line < 2 * EMPTY_LINES;
        if (scan->lines > 0 || is_leading)
            reason = are_field_bytes(line, from, line_length) ? FRAMING_OK : FRAMING_BAD_REQUEST;
        else
            reason = check_request_line(line, from, line_length, limits->target_bytes);
        if (reason != FRAMING_OK || lf == NULL)
            return reason;
        scan->line = stop;
        if (line_length == 2 && is_leading)
            continue;
        if (line_length == 2) {
            *head_stop = stop;
            return FRAMING_OK;
        }
        reason = check_line(line, line_length, scan, limits);
        scan->lines++;
    }
    return reason;
}

static bool ends_a_head(const char *in, size_t length)
{
    return length >= 4 && memcmp(in + length - 4, "\r\n\r\n", 4) == 0;
}

static enum framing_status refuse(enum framing_reason reason, const char *in, size_t length, struct framing_head *head)
{
    const char *const line = skip_empty_lines(in, in + length);
    head->reason = reason;
    head->is_head = in + length - line >= 5 && memcmp(line, "HEAD ", 5) == 0;
    head->wants_close = reason != FRAMING_METHOD || head->wants_close;
    return FRAMING_REFUSED;
}

enum framing_status framing_head(const char *in, size_t in_length, struct framing_scan *scan,
                                 const struct framing_limits *limits, char *out, size_t out_size,
                                 struct framing_head *head)
{
    size_t cap = limits->head_bytes < FRAMING_MAX_HEAD ? limits->head_bytes : FRAMING_MAX_HEAD;
    if (out_size < cap + FRAMING_GROWTH)
        cap = out_size < FRAMING_GROWTH ? 0 : out_size - FRAMING_GROWTH;
    const size_t length = in_length < cap ? in_length : cap;
    size_t head_stop = 0;
    *head = (struct framing_head){.reason = FRAMING_OK};
    if (scan->scanned == 0 && ends_a_head(in, length) && parse_head(in, length, limits, out, head) == FRAMING_OK)
        return FRAMING_DONE;
    *head = (struct framing_head){.reason = FRAMING_OK};
    enum framing_reason reason = arrive(in, length, scan, limits, &head_stop);
    if (reason == FRAMING_OK && head_stop == 0 && length < cap)
        return FRAMING_MORE;
    if (reason == FRAMING_OK)
        reason = head_stop == 0 ? FRAMING_HEADER_CAP : parse_head(in, head_stop, limits, out, head);
    return reason == FRAMING_OK ? FRAMING_DONE : refuse(reason, in, length, head);
}

/* ---- chunked bodies ---- */

/* RFC 9112 section 7.1:
 *   chunked-body = *chunk last-chunk trailer-section CRLF
 *   chunk        = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
 *   chunk-ext    = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
 */
enum chunked_state {
    SIZE,
    BEFORE_SEMICOLON, /* after spaces */
    BEFORE_NAME,
    NAME,
    AFTER_NAME,
    BEFORE_TEXT,
    TEXT,
    QUOTED,
    QUOTED_PAIR,
    AFTER_QUOTED,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER_START,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    LAST_LF,
    ENDED,
    BROKEN,
};

void framing_chunked_init(struct framing_chunked *chunked)
{
    *chunked = (struct framing_chunked){.state = SIZE, .reason = FRAMING_OK};
}

static unsigned hex_value(char c)
{
    return is_digit(c) ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
}

static enum framing_reason take_digit(struct framing_chunked *chunked, char c, uint64_t body_cap)
{
    if (++chunked->digits > LONGEST_CHUNK_SIZE)
        return FRAMING_BAD_REQUEST;
    if (chunked->chunk > UINT64_MAX >> 4)
        return FRAMING_BODY_CAP;
    chunked->chunk = chunked->chunk << 4 | hex_value(c);
    return chunked->total > body_cap || chunked->chunk > body_cap - chunked->total ? FRAMING_BODY_CAP : FRAMING_OK;
}

/* Past a part of the chunk-ext. Returns the next state; BROKEN where the byte fits nowhere. */
static enum chunked_state after_part(char c, bool may_have_text)
{
    if (c == '\r')
        return SIZE_LF;
    if (c == ';')
        return BEFORE_NAME;
    if (c == '=' && may_have_text)
        return BEFORE_TEXT;
    return is_space(c) ? (may_have_text ? AFTER_NAME : BEFORE_SEMICOLON) : BROKEN;
}

static enum chunked_state end_size(struct framing_chunked *chunked)
{
    const bool is_last = chunked->chunk == 0;
    chunked->total += chunked->chunk;
    chunked->digits = 0;
    if (is_last)
        chunked->extra = 0;
    return is_last ? TRAILER_START : DATA;
}

/* The state after one byte that is neither content nor a digit of a size. */
static enum chunked_state step(struct framing_chunked *chunked, char c)
{
    const unsigned kind = class_of(c);
    switch ((enum chunked_state)chunked->state) {
    case SIZE:
        return chunked->digits == 0 ? BROKEN : after_part(c, false);
    case BEFORE_SEMICOLON:
        /* A space that nothing follows is none of the grammar. */
        return c == '\r' ? BROKEN : after_part(c, false);
    case BEFORE_NAME:
        return is_space(c) ? BEFORE_NAME : kind & TOKEN ? NAME : BROKEN;
    case NAME:
        return kind & TOKEN ? NAME : after_part(c, true);
    case AFTER_NAME:
        return c == '\r' ? BROKEN : after_part(c, true);
    case BEFORE_TEXT:
        return is_space(c) ? BEFORE_TEXT : c == '"' ? QUOTED : kind & TOKEN ? TEXT : BROKEN;
    case TEXT:
        return kind & TOKEN ? TEXT : after_part(c, false);
    case QUOTED:
        return c == '"' ? AFTER_QUOTED : c == '\\' ? QUOTED_PAIR : kind & VALUE ? QUOTED : BROKEN;
    case QUOTED_PAIR:
        return kind & VALUE ? QUOTED : BROKEN;
    case AFTER_QUOTED:
        return after_part(c, false);
    case SIZE_LF:
        return c == '\n' ? end_size(chunked) : BROKEN;
    case DATA_CR:
        return c == '\r' ? DATA_LF : BROKEN;
    case DATA_LF:
        return c == '\n' ? SIZE : BROKEN;
    case TRAILER_START:
        return c == '\r' ? LAST_LF : kind & TOKEN ? TRAILER_NAME : BROKEN;
    case TRAILER_NAME:
        return c == ':' ? TRAILER_VALUE : kind & TOKEN ? TRAILER_NAME : BROKEN;
    case TRAILER_VALUE:
        return c == '\r' ? TRAILER_LF : kind & VALUE ? TRAILER_VALUE : BROKEN;
    case TRAILER_LF:
        return c == '\n' ? TRAILER_START : BROKEN;
    case LAST_LF:
        return c == '\n' ? ENDED : BROKEN;
    case DATA:
    case ENDED:
    case BROKEN:
        break;
    }
    return BROKEN;
}

/* One byte that is not content. Returns why it is refused, or FRAMING_OK. */
static enum framing_reason take_byte(struct framing_chunked *chunked, char c, uint64_t body_cap)
{
    if (chunked->state == SIZE && (class_of(c) & HEX))
        return take_digit(chunked, c, body_cap);
    const enum chunked_state state = step(chunked, c);
    chunked->state = (unsigned char)state;
    if (state >= BEFORE_SEMICOLON && state <= AFTER_QUOTED && ++chunked->extra > EXTENSION_BYTES)
        return FRAMING_BAD_REQUEST;
    if (state >= TRAILER_NAME && state <= TRAILER_LF && ++chunked->extra > TRAILER_BYTES)
        return FRAMING_HEADER_CAP;
    return state == BROKEN ? FRAMING_BAD_REQUEST : FRAMING_OK;
}

static void take_content(struct framing_chunked *chunked, size_t *taken, size_t length)
{
    const size_t left = length - *taken;
    const size_t take = chunked->chunk < left ? (size_t)chunked->chunk : left;
    chunked->chunk -= take;
    *taken += take;
    if (chunked->chunk == 0)
        chunked->state = DATA_CR;
}

enum framing_status framing_chunked(struct framing_chunked *chunked, const char *in, size_t length, size_t *consumed,
                                    uint64_t body_cap)
{
    size_t taken = 0;
    while (taken < length && chunked->state < ENDED) {
        if (chunked->state == DATA) {
            take_content(chunked, &taken, length);
            continue;
        }
        chunked->reason = take_byte(chunked, in[taken++], body_cap);
        if (chunked->reason != FRAMING_OK)
            chunked->state = BROKEN;
    }
    *consumed = taken;
    return chunked->state == BROKEN ? FRAMING_REFUSED : chunked->state == ENDED ? FRAMING_DONE : FRAMING_MORE;
}

/* ---- reasons ---- */

static const struct {
    const char *name;
    int status;
} REASONS[FRAMING_REASONS] = {
    [FRAMING_OK] = {"ok", 200},
    [FRAMING_BAD_REQUEST] = {"bad_request", 400},
    [FRAMING_URI_CAP] = {"uri_cap", 414},
    [FRAMING_HEADER_CAP] = {"header_cap", 431},
    [FRAMING_BODY_CAP] = {"body_cap", 413},
    [FRAMING_EXPECTATION] = {"expectation", 417},
    [FRAMING_NOT_IMPLEMENTED] = {"not_implemented", 501},
    [FRAMING_HTTP_VERSION] = {"http_version", 505},
    [FRAMING_METHOD] = {"method", 405},
};

const char *framing_reason_name(enum framing_reason reason)
{
    return REASONS[reason].name;
}

int framing_reason_status(enum framing_reason reason)
{
    return REASONS[reason].status;
}
