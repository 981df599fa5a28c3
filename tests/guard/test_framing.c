/* Tests of framing.c: tables of (bytes, answer), every one of them one-shot, byte by byte and cut in two at every
 * place, with buffers of the exact size so that the sanitizers see one byte too many. */
#include "framing.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned passed, failed;

static void check(bool holds, const char *name, const char *what)
{
    if (holds) {
        passed++;
        return;
    }
    failed++;
    printf("FAILED %s: %s\n", name, what);
}

static const struct framing_limits LIMITS = {.head_bytes = 8192, .target_bytes = 2048, .fields = 100, .body_bytes = 1000};

struct answer {
    enum framing_status status;
    struct framing_head head;
    char *out; /* of head_bytes + FRAMING_GROWTH bytes */
    size_t at; /* bytes that had come when the answer was given */
};

static char *copy_of(const char *bytes, size_t length)
{
    char *const copy = malloc(length + (length == 0));
    if (copy == NULL)
        abort();
    memcpy(copy, bytes, length);
    return copy;
}

static size_t room(const struct framing_limits *limits)
{
    return (limits->head_bytes < FRAMING_MAX_HEAD ? limits->head_bytes : FRAMING_MAX_HEAD) + FRAMING_GROWTH;
}

/* Feed `bytes` in pieces: the first of `first` bytes, the others of `step`. */
static struct answer feed(const char *bytes, size_t length, size_t first, size_t step, const struct framing_limits *limits)
{
    struct framing_scan scan = {0};
    struct answer answer = {.out = malloc(room(limits))};
    for (size_t come = first < length ? first : length;; come = come + step < length ? come + step : length) {
        char *const in = copy_of(bytes, come);
        answer.status = framing_head(in, come, &scan, limits, answer.out, room(limits), &answer.head);
        free(in);
        answer.at = come;
        if (answer.status != FRAMING_MORE || come == length)
            return answer;
    }
}

static bool are_equal(const struct answer *a, const struct answer *b)
{
    return a->status == b->status && a->head.consumed == b->head.consumed && a->head.length == b->head.length &&
           a->head.content_length == b->head.content_length && a->head.corr_id.start == b->head.corr_id.start &&
           a->head.corr_id.stop == b->head.corr_id.stop && a->head.reason == b->head.reason &&
           a->head.is_http10 == b->head.is_http10 && a->head.is_head == b->head.is_head &&
           a->head.wants_close == b->head.wants_close && a->head.expects_continue == b->head.expects_continue &&
           a->head.is_chunked == b->head.is_chunked && memcmp(a->out, b->out, a->head.length) == 0;
}

/* Returns whether every way of cutting the bytes gives the answer of one piece. */
static bool is_split_blind(const char *bytes, size_t length, const struct framing_limits *limits, size_t stride)
{
    bool same = true;
    const struct answer whole = feed(bytes, length, length, 1, limits);
    for (size_t cut = 0; cut <= length && same; cut += stride) {
        const struct answer two = feed(bytes, length, cut, length + 1, limits);
        same = are_equal(&whole, &two);
        if (!same)
            printf("  cut at %zu: %d %d, not %d %d\n", cut, two.status, two.head.reason, whole.status, whole.head.reason);
        free(two.out);
    }
    const struct answer bytewise = feed(bytes, length, 0, 1, limits);
    same = same && are_equal(&whole, &bytewise);
    free(bytewise.out);
    free(whole.out);
    return same;
}

/* ---- the table ---- */

enum { MORE = -1 };

struct head_case {
    const char *name, *in;
    size_t length;
    int reason; /* MORE, FRAMING_OK, or why it is refused */
    const char *out; /* NULL: as it came */
    const char *flags; /* 0: HTTP/1.0, h: HEAD, x: closes, e: expects 100, k: chunked */
    uint64_t content_length;
};

#define S(text) text, sizeof(text) - 1
#define LINE "GET / HTTP/1.1\r\n"
#define HOST "Host: a\r\n"
#define END "\r\n"
#define SAME(name, in) {name, S(in), FRAMING_OK, NULL, "", 0}
#define BECOMES(name, in, out) {name, S(in), FRAMING_OK, out, "", 0}
#define MARKED(name, in, out, flags, length) {name, S(in), FRAMING_OK, out, flags, length}
#define REFUSED(name, in, reason) {name, S(in), FRAMING_##reason, NULL, NULL, 0}
#define WAITS(name, in) {name, S(in), MORE, NULL, NULL, 0}
#define FIELD_IS(name, field) SAME(name, LINE HOST field END END)
#define FIELD_BAD(name, field) REFUSED(name, LINE HOST field END END, BAD_REQUEST)
#define TARGET_IS(target) SAME("target " target, "GET " target " HTTP/1.1\r\n" HOST END)
#define TARGET_BAD(target) REFUSED("target " target, "GET " target " HTTP/1.1\r\n" HOST END, BAD_REQUEST)
#define TARGET_BECOMES(target, path, host) \
    BECOMES("target " target, "GET " target " HTTP/1.1\r\n" HOST END, "GET " path " HTTP/1.1\r\n" host END)
#define HOST_IS(host) SAME("host " host, LINE "Host: " host END END)
#define HOST_BAD(host) REFUSED("host " host, LINE "Host: " host END END, BAD_REQUEST)
#define BARE LINE HOST END

static const struct head_case HEADS[] = {
    /* The request line, RFC 9112 section 3 */
    SAME("plain", BARE),
    SAME("no field but Host, fields after it", LINE HOST "Accept: */*\r\n" END),
    WAITS("nothing", ""),
    WAITS("a method", "GET"),
    WAITS("a request line without LF", "GET / HTTP/1.1\r"),
    WAITS("a request line", LINE),
    WAITS("a field without its end", LINE "Host: a"),
    WAITS("no blank line", LINE HOST),
    WAITS("half a blank line", LINE HOST "\r"),
    WAITS("empty lines only", "\r\n\r\n"),
    BECOMES("one empty line before", "\r\n" BARE, BARE),
    BECOMES("four empty lines before", "\r\n\r\n\r\n\r\n" BARE, BARE),
    REFUSED("five empty lines before", "\r\n\r\n\r\n\r\n\r\n" BARE, BAD_REQUEST),
    REFUSED("endless empty lines", "\r\n\r\n\r\n\r\n\r", BAD_REQUEST),
    REFUSED("bare LF before", "\n" BARE, BAD_REQUEST),
    REFUSED("bare CR before", "\r" BARE, BAD_REQUEST),
    REFUSED("space before the method", " " BARE, BAD_REQUEST),
    REFUSED("tab before the method", "\t" BARE, BAD_REQUEST),
    REFUSED("TLS ClientHello", "\x16\x03\x01\x02\x00\x01", BAD_REQUEST),
    REFUSED("first byte of TLS", "\x16", BAD_REQUEST),
    REFUSED("SSLv2 ClientHello", "\x80\x2e\x01", BAD_REQUEST),
    REFUSED("NUL first", "\0", BAD_REQUEST),
    REFUSED("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD_REQUEST),
    REFUSED("HTTP/2 preface, its line", "PRI * HTTP/2.0\r\n", BAD_REQUEST),
    REFUSED("HTTP/0.9", "GET /\r\n", BAD_REQUEST),
    REFUSED("HTTP/0.9 with a space", "GET / \r\n", BAD_REQUEST),
    REFUSED("two spaces after the method", "GET  / HTTP/1.1\r\n", BAD_REQUEST),
    REFUSED("two spaces before the version", "GET /  HTTP/1.1\r\n", BAD_REQUEST),
    REFUSED("a tab after the method", "GET\t/ HTTP/1.1\r\n", BAD_REQUEST),
    REFUSED("a tab before the version", "GET /\tHTTP/1.1\r\n", BAD_REQUEST),
    REFUSED("a space after the version", "GET / HTTP/1.1 \r\n", BAD_REQUEST),
    REFUSED("a second version", "GET / HTTP/1.1 HTTP/1.1\r\n", BAD_REQUEST),
    REFUSED("words", "hello there\r\n", BAD_REQUEST),
    REFUSED("SSH", "SSH-2.0-OpenSSH_9.2\r\n", BAD_REQUEST),
    REFUSED("a line of nothing but spaces", "   \r\n", BAD_REQUEST),
    REFUSED("request line with bare LF", "GET / HTTP/1.1\nHost: a\r\n\r\n", BAD_REQUEST),
    REFUSED("request line with bare CR", "GET / HTTP/1.1\rHost: a\r\n\r\n", BAD_REQUEST),
    REFUSED("request line with CR CR LF", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", BAD_REQUEST),
    REFUSED("NUL in the target", "GET /a\0b HTTP/1.1\r\n", BAD_REQUEST),
    REFUSED("NUL in the target, at once", "GET /a\0", BAD_REQUEST),
    REFUSED("NUL in the method", "G\0T / HTTP/1.1\r\n", BAD_REQUEST),
    REFUSED("a method of 33 bytes", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\n", BAD_REQUEST),
    REFUSED("an endless method", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", BAD_REQUEST),
    REFUSED("a method with a colon", "GET: / HTTP/1.1\r\n", BAD_REQUEST),
    REFUSED("a method with a colon, at once", "GET:", BAD_REQUEST),
    REFUSED("a target with obs-text, at once", "GET /\xe9", BAD_REQUEST),
    REFUSED("a target with a tab, at once", "GET /\t", BAD_REQUEST),
    REFUSED("a value with NUL, at once", LINE "X: \0", BAD_REQUEST),
    REFUSED("CR and a byte, at once", LINE "X: \rY", BAD_REQUEST),
    REFUSED("no method", "/ HTTP/1.1\r\n", BAD_REQUEST),

    /* Versions */
    REFUSED("HTTP/9.9", "GET / HTTP/9.9\r\n", HTTP_VERSION),
    REFUSED("HTTP/2.0", "GET / HTTP/2.0\r\n", HTTP_VERSION),
    REFUSED("HTTP/1.2", "GET / HTTP/1.2\r\n", HTTP_VERSION),
    REFUSED("HTTP/1.9", "GET / HTTP/1.9\r\n", HTTP_VERSION),
    REFUSED("HTTP/0.9 said", "GET / HTTP/0.9\r\n", HTTP_VERSION),
    REFUSED("HTTP/0.0", "GET / HTTP/0.0\r\n", HTTP_VERSION),
    REFUSED("HTTP/1", "GET / HTTP/1\r\n", BAD_REQUEST),
    REFUSED("HTTP/2", "GET / HTTP/2\r\n", BAD_REQUEST),
    REFUSED("HTTP/1.", "GET / HTTP/1.\r\n", BAD_REQUEST),
    REFUSED("HTTP/.1", "GET / HTTP/.1\r\n", BAD_REQUEST),
    REFUSED("HTTP/01.1", "GET / HTTP/01.1\r\n", BAD_REQUEST),
    REFUSED("HTTP/1.01", "GET / HTTP/1.01\r\n", BAD_REQUEST),
    REFUSED("HTTP/1.10", "GET / HTTP/1.10\r\n", BAD_REQUEST),
    REFUSED("HTTP/11.1", "GET / HTTP/11.1\r\n", BAD_REQUEST),
    REFUSED("HTTP/1,1", "GET / HTTP/1,1\r\n", BAD_REQUEST),
    REFUSED("HTTP 1.1", "GET / HTTP 1.1\r\n", BAD_REQUEST),
    REFUSED("http/1.1", "GET / http/1.1\r\n", BAD_REQUEST),
    REFUSED("Http/1.1", "GET / Http/1.1\r\n", BAD_REQUEST),
    REFUSED("HTTPS/1.1", "GET / HTTPS/1.1\r\n", BAD_REQUEST),
    REFUSED("ICY/1.1", "GET / ICY/1.1\r\n", BAD_REQUEST),
    REFUSED("HTTP/1.x", "GET / HTTP/1.x\r\n", BAD_REQUEST),
    REFUSED("HTTP/+1.1", "GET / HTTP/+1.1\r\n", BAD_REQUEST),

    /* Methods; those of bjoern are a family of their own below */
    MARKED("HEAD", "HEAD / HTTP/1.1\r\n" HOST END, NULL, "h", 0),
    REFUSED("unknown method", "BREW / HTTP/1.1\r\n" HOST END, METHOD),
    WAITS("unknown method, its line", "BREW / HTTP/1.1\r\n"),
    REFUSED("lower case method", "get / HTTP/1.1\r\n" HOST END, METHOD),
    REFUSED("GETX", "GETX / HTTP/1.1\r\n" HOST END, METHOD),
    REFUSED("GE", "GE / HTTP/1.1\r\n" HOST END, METHOD),
    REFUSED("a method of 32 bytes", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\n" HOST END, METHOD),
    REFUSED("CONNECT authority", "CONNECT a:443 HTTP/1.1\r\n" HOST END, METHOD),
    REFUSED("CONNECT address", "CONNECT [::1]:443 HTTP/1.1\r\n" HOST END, METHOD),
    REFUSED("CONNECT path", "CONNECT / HTTP/1.1\r\n" HOST END, METHOD),
    REFUSED("unknown method, unknown version", "BREW / HTTP/3.0\r\n" HOST END, HTTP_VERSION),
    REFUSED("unknown method, no Host", "BREW / HTTP/1.1\r\n" END, BAD_REQUEST),

    /* Targets, RFC 9112 section 3.2 */
    TARGET_IS("/"),
    TARGET_IS("//"),
    TARGET_IS("//b/c"),
    TARGET_IS("/a/../b"),
    TARGET_IS("/a?"),
    TARGET_IS("/a?b=c&d=e"),
    TARGET_IS("/?a?b??c"),
    TARGET_IS("/a?/b"),
    TARGET_IS("/-._~!$&'()*+,;=:@"),
    TARGET_IS("/?-._~!$&'()*+,;=:@/?"),
    TARGET_IS("/Name[wdth,wght].ttf"),
    TARGET_IS("/a|b^c"),
    TARGET_IS("/?family=Open+Sans|Roboto&x[]={1}`\\^"),
    TARGET_IS("/%41"),
    TARGET_IS("/%00"),
    TARGET_IS("/%2e%2E/%ff"),
    TARGET_IS("/a%20"),
    TARGET_IS("/a?%41"),
    TARGET_IS("/a%2Fb%3f%23"),
    TARGET_BECOMES("/??", "/?%3F", HOST),
    TARGET_BECOMES("/??a", "/?%3Fa", HOST),
    TARGET_BECOMES("/???a", "/?%3F?a", HOST),
    TARGET_BAD("a"),
    TARGET_BAD("?a"),
    TARGET_BAD("*"),
    TARGET_BAD("*a"),
    TARGET_BAD("a:80"),
    TARGET_BAD("./a"),
    TARGET_BAD("\\a"),
    TARGET_BAD("/a\\b"),
    TARGET_BAD("/a{b}"),
    TARGET_BAD("/a`b"),
    TARGET_BAD("/a#b"),
    TARGET_BAD("/#"),
    TARGET_BAD("/a?b#c"),
    TARGET_BAD("/<a>"),
    TARGET_BAD("/\"a\""),
    TARGET_BAD("/?<a>"),
    TARGET_BAD("/?\"a\""),
    TARGET_BAD("/\x7f"),
    TARGET_BAD("/\x01"),
    TARGET_BAD("/\xc3\xa9"),
    TARGET_BAD("/?\xc3\xa9"),
    TARGET_BAD("/a b"),
    TARGET_BAD("/a\tb"),
    TARGET_BAD("/%"),
    TARGET_BAD("/%4"),
    TARGET_BAD("/%4?"),
    TARGET_BAD("/%g1"),
    TARGET_BAD("/%1g"),
    TARGET_BAD("/%%41"),
    TARGET_BAD("/%u0041"),
    TARGET_BAD("/% 41"),
    TARGET_BAD("/%-1"),
    TARGET_BAD("/?%"),
    TARGET_BAD("/?%4"),
    TARGET_BAD("/?a=%zz"),
    BECOMES("OPTIONS *", "OPTIONS * HTTP/1.1\r\n" HOST END, NULL),
    REFUSED("OPTIONS **", "OPTIONS ** HTTP/1.1\r\n" HOST END, BAD_REQUEST),
    REFUSED("OPTIONS *?a", "OPTIONS *?a HTTP/1.1\r\n" HOST END, BAD_REQUEST),
    REFUSED("HEAD *", "HEAD * HTTP/1.1\r\n" HOST END, BAD_REQUEST),
    TARGET_BECOMES("http://b", "/", "Host: b\r\n"),
    TARGET_BECOMES("http://b/", "/", "Host: b\r\n"),
    TARGET_BECOMES("http://b/c?d", "/c?d", "Host: b\r\n"),
    TARGET_BECOMES("http://b?d", "/?d", "Host: b\r\n"),
    TARGET_BECOMES("http://b??", "/?%3F", "Host: b\r\n"),
    TARGET_BECOMES("http://b:8080/c", "/c", "Host: b:8080\r\n"),
    TARGET_BECOMES("http://[::1]:80/c", "/c", "Host: [::1]:80\r\n"),
    TARGET_BECOMES("https://b/c", "/c", "Host: b\r\n"),
    TARGET_BECOMES("HTTP://b/c", "/c", "Host: b\r\n"),
    TARGET_BECOMES("hTtPs://B/c", "/c", "Host: B\r\n"),
    TARGET_BECOMES("http://b//c", "//c", "Host: b\r\n"),
    TARGET_BAD("http:"),
    TARGET_BAD("http:/"),
    TARGET_BAD("http:/b/c"),
    TARGET_BAD("http://"),
    TARGET_BAD("http:///c"),
    TARGET_BAD("http://?c"),
    TARGET_BAD("http://:80/c"),
    TARGET_BAD("http://u@b/c"),
    TARGET_BAD("http://u:p@b/c"),
    TARGET_BAD("http://b#c"),
    TARGET_BAD("http://b/#c"),
    TARGET_BAD("http://b\\c/"),
    TARGET_BAD("http://b:port/c"),
    TARGET_BAD("http://[::1/c"),
    TARGET_BAD("http://[::1]x/c"),
    TARGET_BAD("ftp://b/c"),
    TARGET_BAD("file:///c"),
    TARGET_BAD("httpx://b/c"),
    TARGET_BAD("httpss://b/c"),
    TARGET_BAD("http\x1a//b/c"),
    TARGET_BAD("\x08ttp://b/c"),
    BECOMES("OPTIONS of a server", "OPTIONS http://b HTTP/1.1\r\n" HOST END, "OPTIONS * HTTP/1.1\r\nHost: b\r\n" END),
    BECOMES("OPTIONS of a root", "OPTIONS http://b/ HTTP/1.1\r\n" HOST END, "OPTIONS / HTTP/1.1\r\nHost: b\r\n" END),
    BECOMES("OPTIONS of a query", "OPTIONS http://b?c HTTP/1.1\r\n" HOST END, "OPTIONS /?c HTTP/1.1\r\nHost: b\r\n" END),
    REFUSED("absolute-form without Host", "GET http://b/ HTTP/1.1\r\n" END, BAD_REQUEST),
    REFUSED("absolute-form with a bad Host", "GET http://b/ HTTP/1.1\r\nHost: a b\r\n" END, BAD_REQUEST),
    REFUSED("absolute-form with two Hosts", "GET http://b/ HTTP/1.1\r\n" HOST HOST END, BAD_REQUEST),
    MARKED("absolute-form in 1.0, the most a head grows", "GET http://b??d HTTP/1.0\r\n" END,
           "GET /?%3Fd HTTP/1.1\r\nHost: b\r\n" END, "0x", 0),

    /* Host, RFC 9110 section 7.2, RFC 3986 section 3.2.2 */
    HOST_IS("example.org"),
    HOST_IS("example.org."),
    HOST_IS("a_b-c~d"),
    HOST_IS("xn--bcher-kva.example:8080"),
    HOST_IS("a:"),
    HOST_IS("a:0"),
    HOST_IS("a:65535"),
    HOST_IS("127.0.0.1:80"),
    HOST_IS("%41b"),
    HOST_IS("[::]"),
    HOST_IS("[::1]"),
    HOST_IS("[1::]"),
    HOST_IS("[::1]:443"),
    HOST_IS("[2001:db8::8:800:200C:417A]"),
    HOST_IS("[1:2:3:4:5:6:7:8]"),
    HOST_IS("[1:2:3:4:5:6:7::]"),
    HOST_IS("[::2:3:4:5:6:7:8]"),
    HOST_IS("[1:2:3:4:5:6:1.2.3.4]"),
    HOST_IS("[::ffff:192.0.2.255]"),
    HOST_IS("[::1:2:3:4:5:1.2.3.4]"),
    HOST_BAD(""),
    HOST_BAD(":80"),
    HOST_BAD("a:65536"),
    HOST_BAD("a:000080"),
    HOST_BAD("a:80:80"),
    HOST_BAD("a:+80"),
    HOST_BAD("a:8o"),
    HOST_BAD("a: 80"),
    HOST_BAD("a b"),
    HOST_BAD("a, b"),
    HOST_BAD("a/b"),
    HOST_BAD("a?b"),
    HOST_BAD("a#b"),
    HOST_BAD("a@b"),
    HOST_BAD("http://a"),
    HOST_BAD("a\\b"),
    HOST_BAD("a\"b"),
    HOST_BAD("<a>"),
    HOST_BAD("a\xc3\xa9"),
    HOST_BAD("%4"),
    HOST_BAD("%"),
    HOST_BAD("%zz"),
    HOST_BAD("%g1"),
    HOST_BAD("%1g"),
    HOST_BAD("a^b"),
    HOST_BAD("[]"),
    HOST_BAD("[:]"),
    HOST_BAD("[:::]"),
    HOST_BAD("[::1"),
    HOST_BAD("::1"),
    HOST_BAD("[::1]a"),
    HOST_BAD("[::1]]"),
    HOST_BAD("[1:2:3:4:5:6:7]"),
    HOST_BAD("[1:2:3:4:5:6:7:8:9]"),
    HOST_BAD("[1:2:3:4:5:6:7:8::]"),
    HOST_BAD("[::1:2:3:4:5:6:7:8]"),
    HOST_BAD("[1::2::3]"),
    HOST_BAD("[1:]"),
    HOST_BAD("[:1]"),
    HOST_BAD("[12345::]"),
    HOST_BAD("[g::]"),
    HOST_BAD("[::1.2.3]"),
    HOST_BAD("[::1.2.3.4.5]"),
    HOST_BAD("[::1.2.3.256]"),
    HOST_BAD("[::01.2.3.4]"),
    HOST_BAD("[::1.2.3.4:1]"),
    HOST_BAD("[1:2:3:4:5:6:7:1.2.3.4]"),
    HOST_BAD("[::1:2:3:4:5:6:1.2.3.4]"),
    HOST_BAD("[1.2.3.4]"),
    HOST_BAD("[fe80::1%25eth0]"),
    HOST_BAD("[v1.a]"),
    REFUSED("no Host", LINE END, BAD_REQUEST),
    REFUSED("no Host, other fields", LINE "Accept: a\r\n" END, BAD_REQUEST),
    REFUSED("two Hosts", LINE HOST "Host: b\r\n" END, BAD_REQUEST),
    REFUSED("the same Host twice", LINE HOST "hOST: a\r\n" END, BAD_REQUEST),
    MARKED("1.0 without Host", "GET / HTTP/1.0\r\n" END, LINE END, "0x", 0),
    MARKED("1.0 with Host", "GET / HTTP/1.0\r\n" HOST END, BARE, "0x", 0),
    REFUSED("1.0 with two Hosts", "GET / HTTP/1.0\r\n" HOST HOST END, BAD_REQUEST),
    REFUSED("1.0 with a bad Host", "GET / HTTP/1.0\r\nHost: a b\r\n" END, BAD_REQUEST),

    /* Field lines, RFC 9112 section 5 */
    FIELD_IS("every token character in a name", "!#$%&'*+-.^`|~09azAZ: x"),
    FIELD_IS("empty value", "X:"),
    FIELD_IS("empty value after a space", "X: "),
    FIELD_IS("no space after the colon", "X:y"),
    FIELD_IS("obs-text", "X: \x80\xc3\xa9\xff"),
    FIELD_IS("tab and spaces within", "X: a\tb  c"),
    FIELD_IS("quotes and colons", "X: \"a:b\", <c>; d=(e)"),
    BECOMES("spaces before the value", LINE HOST "X:   y\r\n" END, LINE HOST "X: y\r\n" END),
    BECOMES("tab before the value", LINE HOST "X:\ty\r\n" END, LINE HOST "X: y\r\n" END),
    BECOMES("space after the value", LINE HOST "X: y \r\n" END, LINE HOST "X: y\r\n" END),
    BECOMES("tab after the value", LINE HOST "X:y\t\r\n" END, LINE HOST "X: y\r\n" END),
    BECOMES("value of spaces", LINE HOST "X:  \t \r\n" END, LINE HOST "X: \r\n" END),
    FIELD_BAD("space before the colon", "X : y"),
    FIELD_BAD("tab before the colon", "X\t: y"),
    FIELD_BAD("leading space", " X: y"),
    FIELD_BAD("obs-fold", "X: y\r\n z"),
    FIELD_BAD("obs-fold with a tab", "X: y\r\n\tz"),
    FIELD_BAD("obs-fold of nothing", "X: y\r\n "),
    FIELD_BAD("empty name", ": y"),
    FIELD_BAD("no colon", "X"),
    FIELD_BAD("name with a space", "X Y: z"),
    FIELD_BAD("name with a quote", "X\"Y: z"),
    FIELD_BAD("name with a slash", "X/Y: z"),
    FIELD_BAD("name with parentheses", "X(Y): z"),
    FIELD_BAD("name with obs-text", "X\xe9: z"),
    FIELD_BAD("name with NUL", "X\0: z"),
    FIELD_BAD("name with vertical tab", "X\v: z"),
    FIELD_BAD("name with CR", "X\rY: z"),
    FIELD_BAD("value with NUL", "X: a\0b"),
    FIELD_BAD("value with DEL", "X: a\x7f"),
    FIELD_BAD("value with a control character", "X: a\x01"),
    FIELD_BAD("value with vertical tab", "X: a\vb"),
    FIELD_BAD("value with escape", "X: \x1b[2J"),
    FIELD_BAD("value with bare CR", "X: a\rb"),
    FIELD_BAD("value with bare LF", "X: a\nb: c"),
    FIELD_BAD("value ends in CR CR LF", "X: a\r"),
    REFUSED("bare LF lines", "GET / HTTP/1.1\nHost: a\n\n", BAD_REQUEST),
    REFUSED("blank line of a bare LF", LINE HOST "\n", BAD_REQUEST),
    REFUSED("blank line of CR and a byte", LINE HOST "\rX", BAD_REQUEST),
    REFUSED("NUL in a field, at once", LINE "Host: a\0", BAD_REQUEST),
    REFUSED("a bad field, before the blank line", LINE "Host : a\r\n", BAD_REQUEST),
    REFUSED("space between request line and fields", LINE " X: y\r\n" HOST END, BAD_REQUEST),
    BECOMES("names with underscores", LINE HOST "X_Y: 1\r\nContent_Length: 5\r\n_: 2\r\nA: 3\r\n" END,
            LINE HOST "A: 3\r\n" END),
    REFUSED("only an underscored Host", LINE "Ho_st: a\r\n" END, BAD_REQUEST),

    /* Repeated fields, RFC 9110 section 5.3 */
    BECOMES("a list in two lines", LINE HOST "Accept-Encoding: gzip\r\nAccept-Encoding: br\r\n" END,
            LINE HOST "Accept-Encoding: gzip, br\r\n" END),
    BECOMES("a list in lines apart", LINE "X: 1\r\n" HOST "x: 2\r\nY: 3\r\nX: 4\r\n" END,
            LINE "X: 1, 2, 4\r\n" HOST "Y: 3\r\n" END),
    BECOMES("lists with empty lines", LINE HOST "X:\r\nX: 1\r\nX: \r\nX: 2\r\n" END, LINE HOST "X: 1, 2\r\n" END),
    BECOMES("a list of empty lines", LINE HOST "X:\r\nX:\r\n" END, LINE HOST "X: \r\n" END),
    BECOMES("lists without spaces", LINE HOST "X:1\r\nX:2\r\n" END, LINE HOST "X: 1, 2\r\n" END),
    BECOMES("validators", LINE HOST "If-None-Match: \"a\"\r\nIf-None-Match: W/\"b\"\r\n" END,
            LINE HOST "If-None-Match: \"a\", W/\"b\"\r\n" END),
    BECOMES("cookies", LINE HOST "Cookie: a=1\r\ncookie: b=2\r\n" END, LINE HOST "Cookie: a=1; b=2\r\n" END),
    SAME("names that share length and letters", LINE HOST "Sec-Fetch-Mode: a\r\nSec-Fetch-Site: b\r\nSec-Fetch-Dest: c\r\n" END),
    SAME("names that differ in bit 5", LINE HOST "X^: 1\r\nX~: 2\r\nX|: 3\r\n" END),
    FIELD_BAD("Range twice", "Range: bytes=0-1\r\nrange: bytes=2-3"),
    FIELD_BAD("If-Range twice", "If-Range: \"a\"\r\nIf-Range: \"a\""),
    FIELD_BAD("If-Modified-Since twice", "If-Modified-Since: a\r\nIf-Modified-Since: b"),
    FIELD_BAD("If-Unmodified-Since twice", "If-Unmodified-Since: a\r\nIf-Unmodified-Since: b"),
    FIELD_BAD("Authorization twice", "Authorization: a\r\nAuthorization: b"),
    FIELD_BAD("Proxy-Authorization twice", "Proxy-Authorization: a\r\nProxy-Authorization: b"),
    FIELD_BAD("Content-Type twice", "Content-Type: a\r\nContent-Type: b"),
    FIELD_BAD("Origin twice", "Origin: a\r\nOrigin: b"),
    FIELD_BAD("X-Corr-ID twice", "X-Corr-ID: a\r\nX-Corr-ID: b"),
    FIELD_BAD("Access-Control-Request-Method twice",
              "Access-Control-Request-Method: a\r\nAccess-Control-Request-Method: b"),
    FIELD_IS("singles once each", "Range: a\r\nIf-Range: a\r\nIf-Modified-Since: a\r\nIf-Unmodified-Since: a\r\n"
             "Authorization: a\r\nProxy-Authorization: a\r\nContent-Type: a\r\nOrigin: a\r\nX-Corr-ID: a\r\n"
             "Access-Control-Request-Method: a"),
    SAME("names that nearly are known", LINE HOST "Hosts: b\r\nHos: b\r\nRangf: 1\r\nTf: 2\r\nConnectiom: close\r\n"
         "Content-Lengti: 5\r\nTransfer-Encodinf: chunked\r\nUpgradf: h2c\r\nExpecu: x\r\nKeep-Alivf: 5\r\n" END),

    /* Hop-by-hop, RFC 9110 section 7.6.1 */
    BECOMES("hop-by-hop fields", LINE "Keep-Alive: timeout=5\r\nTE: trailers\r\n" HOST "Trailer: X\r\nUpgrade: h2c\r\n"
            "HTTP2-Settings: AAMAAABk\r\nProxy-Connection: keep-alive\r\nConnection: keep-alive\r\nA: b\r\n" END,
            LINE HOST "A: b\r\n" END),
    BECOMES("WebSocket", LINE HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n" END, BARE),
    BECOMES("nominated", LINE HOST "X-Hop: 1\r\nConnection: x-hop\r\nA: b\r\n" END, LINE HOST "A: b\r\n" END),
    BECOMES("nominated before, repeated", LINE HOST "Connection: X-Hop, y\r\nX-Hop: 1\r\nA: b\r\nX-Hop: 2\r\n" END,
            LINE HOST "A: b\r\n" END),
    BECOMES("nominated, but for all",
            LINE "Connection: Host, Range, Accept, Accept-Encoding, If-None-Match, Cookie, Authorization, X-Forwarded-For, "
            "Cache-Control, Sec-Fetch-Site, User-Agent, Content-Type, Access-Control-Request-Headers, X-Corr-ID\r\n" HOST
            "Range: 1\r\nAccept: 2\r\nAccept-Encoding: 3\r\nIf-None-Match: 4\r\nCookie: 5\r\nAuthorization: 6\r\n"
            "X-Forwarded-For: 7\r\nCache-Control: 8\r\nSec-Fetch-Site: 9\r\nUser-Agent: a\r\nContent-Type: b\r\n"
            "Access-Control-Request-Headers: c\r\nX-Corr-ID: d\r\n" END,
            LINE HOST "Range: 1\r\nAccept: 2\r\nAccept-Encoding: 3\r\nIf-None-Match: 4\r\nCookie: 5\r\nAuthorization: 6\r\n"
            "X-Forwarded-For: 7\r\nCache-Control: 8\r\nSec-Fetch-Site: 9\r\nUser-Agent: a\r\nContent-Type: b\r\n"
            "Access-Control-Request-Headers: c\r\nX-Corr-ID: d\r\n" END),

    /* Connection, RFC 9112 section 9.3 */
    MARKED("close", LINE HOST "Connection: close\r\n" END, BARE, "x", 0),
    MARKED("Close", LINE HOST "connection: Close\r\n" END, BARE, "x", 0),
    MARKED("CLOSE", LINE HOST "CONNECTION:CLOSE \r\n" END, BARE, "x", 0),
    MARKED("foo, close", LINE HOST "Connection: foo, close\r\n" END, BARE, "x", 0),
    MARKED("close,foo", LINE HOST "Connection: close,foo\r\n" END, BARE, "x", 0),
    MARKED(",, close ,", LINE HOST "Connection: ,,\tclose ,\r\n" END, BARE, "x", 0),
    MARKED("keep-alive, close", LINE HOST "Connection: keep-alive, close\r\n" END, BARE, "x", 0),
    MARKED("close in a second field", LINE "Connection: keep-alive\r\n" HOST "Connection: close\r\n" END, BARE, "x", 0),
    MARKED("close with a parameter", LINE HOST "Connection: close;q=1\r\n" END, BARE, "x", 0),
    MARKED("closed", LINE HOST "Connection: closed, xclose\r\n" END, BARE, "", 0),
    MARKED("empty Connection", LINE HOST "Connection: \r\n" END, BARE, "", 0),
    MARKED("Keep-Alive", LINE HOST "Connection: Keep-Alive\r\n" END, BARE, "", 0),
    MARKED("1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n" HOST END, BARE, "0", 0),
    MARKED("1.0 foo, keep-alive", "GET / HTTP/1.0\r\nConnection: foo , KEEP-ALIVE\r\n" HOST END, BARE, "0", 0),
    MARKED("1.0 keep-alive, close", "GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n" HOST END, BARE, "0x", 0),
    MARKED("1.0 Proxy-Connection", "GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n" HOST END, BARE, "0x", 0),

    /* Content-Length, RFC 9110 section 8.6 and RFC 9112 section 6.3 */
    MARKED("length 0", LINE HOST "Content-Length: 0\r\n" END, BARE, "", 0),
    MARKED("length 5", LINE HOST "Content-Length: 5\r\n" END "hello", BARE, "", 5),
    MARKED("length 5 and spaces", LINE HOST "Content-Length:  5 \r\n" END, BARE, "", 5),
    MARKED("length 005", LINE HOST "content-length:005\r\n" END, BARE, "", 5),
    MARKED("length at the cap", LINE HOST "Content-Length: 1000\r\n" END, BARE, "", 1000),
    REFUSED("length over the cap", LINE HOST "Content-Length: 1001\r\n" END, BODY_CAP),
    REFUSED("length 2^64 - 1", LINE HOST "Content-Length: 18446744073709551615\r\n" END, BODY_CAP),
    REFUSED("length 2^64", LINE HOST "Content-Length: 18446744073709551616\r\n" END, BODY_CAP),
    REFUSED("length 2^64 + 5", LINE HOST "Content-Length: 18446744073709551621\r\n" END, BODY_CAP),
    REFUSED("length of 30 digits", LINE HOST "Content-Length: 100000000000000000000000000000\r\n" END, BODY_CAP),
    FIELD_BAD("length over 2^64, then a letter", "Content-Length: 18446744073709551616a"),
    FIELD_BAD("length empty", "Content-Length:"),
    FIELD_BAD("length of spaces", "Content-Length:  "),
    FIELD_BAD("length +5", "Content-Length: +5"),
    FIELD_BAD("length -5", "Content-Length: -5"),
    FIELD_BAD("length 0x5", "Content-Length: 0x5"),
    FIELD_BAD("length 5 5", "Content-Length: 5 5"),
    FIELD_BAD("length 5.0", "Content-Length: 5.0"),
    FIELD_BAD("length 1e3", "Content-Length: 1e3"),
    FIELD_BAD("length 1_0", "Content-Length: 1_0"),
    FIELD_BAD("length 5;", "Content-Length: 5;"),
    FIELD_BAD("length quoted", "Content-Length: \"5\""),
    FIELD_BAD("length in Arabic digits", "Content-Length: \xd9\xa5"),
    FIELD_BAD("length with a vertical tab", "Content-Length: \v5"),
    FIELD_BAD("length in a list", "Content-Length: 5, 5"),
    FIELD_BAD("length in a list, different", "Content-Length: 5,6"),
    FIELD_BAD("length with a comma", "Content-Length: 5,"),
    FIELD_BAD("length twice", "Content-Length: 5\r\nContent-Length: 5"),
    FIELD_BAD("length twice, different", "Content-Length: 0\r\ncontent-length: 44"),
    FIELD_BAD("length twice, one empty", "Content-Length: \r\nContent-Length: 5"),
    FIELD_BAD("Content-Length : 5", "Content-Length : 5"),

    /* Transfer-Encoding, RFC 9112 sections 6.1 and 6.3 */
    MARKED("chunked", LINE HOST "Transfer-Encoding: chunked\r\n" END, BARE, "k", 0),
    MARKED("Chunked", LINE HOST "transfer-encoding:CHUNKED\t\r\n" END, BARE, "k", 0),
    FIELD_BAD("CL.TE", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
    FIELD_BAD("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 5"),
    FIELD_BAD("TE with length 0", "Transfer-Encoding: chunked\r\nContent-Length: 0"),
    FIELD_BAD("TE with a bad length", "Transfer-Encoding: chunked\r\nContent-Length: x"),
    FIELD_BAD("unknown coding with a length", "Transfer-Encoding: gzip\r\nContent-Length: 5"),
    FIELD_BAD("TE empty", "Transfer-Encoding:"),
    FIELD_BAD("TE chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    FIELD_BAD("TE chunked, chunked", "Transfer-Encoding: chunked, chunked"),
    FIELD_BAD("TE chunked, identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
    FIELD_BAD("TE chunked, gzip", "Transfer-Encoding: chunked, gzip"),
    FIELD_BAD("TE chunked,", "Transfer-Encoding: chunked,"),
    FIELD_BAD("TE ,chunked", "Transfer-Encoding: ,chunked"),
    FIELD_BAD("TE chunked;", "Transfer-Encoding: chunked;"),
    FIELD_BAD("TE chunked;a=b", "Transfer-Encoding: chunked;a=b"),
    FIELD_BAD("TE chunked foo", "Transfer-Encoding: chunked foo"),
    FIELD_BAD("TE \"chunked\"", "Transfer-Encoding: \"chunked\""),
    FIELD_BAD("TE 'vertical tab'chunked", "Transfer-Encoding: \vchunked"),
    FIELD_BAD("TE chunked'vertical tab'", "Transfer-Encoding: chunked\v"),
    FIELD_BAD("TE chunked'NUL'", "Transfer-Encoding: chunked\0"),
    FIELD_BAD("TE CR chunked", "Transfer-Encoding:\rchunked"),
    FIELD_BAD("TE folded", "Transfer-Encoding:\r\n chunked"),
    FIELD_BAD("TE chunked'0xa0'", "Transfer-Encoding: chunked\xa0"),
    FIELD_BAD("TE '0xff'chunked", "Transfer-Encoding: \xff" "chunked"),
    FIELD_BAD("TE :", "Transfer-Encoding : chunked"),
    FIELD_BAD("TE after a folded line", "X: y\r\n Transfer-Encoding: chunked"),
    FIELD_BAD("TE after LF", "X: y\nTransfer-Encoding: chunked"),
    FIELD_BAD("TE after CR", "X: y\rTransfer-Encoding: chunked"),
    REFUSED("TE gzip", LINE HOST "Transfer-Encoding: gzip\r\n" END, NOT_IMPLEMENTED),
    REFUSED("TE gzip, chunked", LINE HOST "Transfer-Encoding: gzip, chunked\r\n" END, NOT_IMPLEMENTED),
    REFUSED("TE in two lines", LINE HOST "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n" END, NOT_IMPLEMENTED),
    REFUSED("TE identity", LINE HOST "Transfer-Encoding: identity\r\n" END, NOT_IMPLEMENTED),
    REFUSED("TE xchunked", LINE HOST "Transfer-Encoding: xchunked\r\n" END, NOT_IMPLEMENTED),
    REFUSED("TE chunkedx", LINE HOST "Transfer-Encoding: chunkedx\r\n" END, NOT_IMPLEMENTED),
    REFUSED("TE cow;moo=1", LINE HOST "Transfer-Encoding: cow;moo=1\r\n" END, NOT_IMPLEMENTED),
    REFUSED("TE cow ;moo=1", LINE HOST "Transfer-Encoding: cow ;moo=1\r\n" END, NOT_IMPLEMENTED),
    FIELD_BAD("TE cow(moo)", "Transfer-Encoding: cow(moo)"),
    REFUSED("TE first of all fields", LINE "Transfer-Encoding: gzip\r\n" HOST END, NOT_IMPLEMENTED),
    MARKED("chunked first of all fields", LINE "Transfer-Encoding: chunked\r\n" HOST END, BARE, "k", 0),
    REFUSED("TE in 1.0", "POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n" END, BAD_REQUEST),
    REFUSED("TE gzip in 1.0", "POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: gzip\r\n" END, BAD_REQUEST),
    REFUSED("TE and CL in 1.0", "POST / HTTP/1.0\r\n" HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n" END, BAD_REQUEST),
    BECOMES("Transfer_Encoding", LINE HOST "Transfer_Encoding: chunked\r\n" END, BARE),
    FIELD_IS("X-Transfer-Encoding", "X-Transfer-Encoding: chunked\r\nXTransfer-Encoding: chunked"),

    /* Expect, RFC 9110 section 10.1.1 */
    MARKED("100-continue", LINE HOST "Expect: 100-continue\r\nContent-Length: 5\r\n" END, BARE, "e", 5),
    MARKED("100-Continue, chunked", LINE HOST "expect: 100-CONTINUE\r\nTransfer-Encoding: chunked\r\n" END, BARE, "ek", 0),
    MARKED("100-continue without content", LINE HOST "Expect: 100-continue\r\n" END, BARE, "", 0),
    MARKED("100-continue in 1.0", "POST / HTTP/1.0\r\n" HOST "Expect: 100-continue\r\nContent-Length: 5\r\n" END,
           "POST / HTTP/1.1\r\n" HOST END, "0x", 5),
    MARKED("other expectation in 1.0", "GET / HTTP/1.0\r\n" HOST "Expect: tea\r\n" END, BARE, "0x", 0),
    REFUSED("expectation", LINE HOST "Expect: tea\r\n" END, EXPECTATION),
    REFUSED("expectation first of all fields", LINE "Expect: tea\r\n" HOST END, EXPECTATION),
    REFUSED("expectation empty", LINE HOST "Expect:\r\n" END, EXPECTATION),
    REFUSED("expectation 100", LINE HOST "Expect: 100\r\n" END, EXPECTATION),
    REFUSED("expectation 100-continue, tea", LINE HOST "Expect: 100-continue, tea\r\n" END, EXPECTATION),
    REFUSED("expectation twice, one unknown", LINE HOST "Expect: 100-continue\r\nExpect: tea\r\n" END, EXPECTATION),
    REFUSED("expectation with DC1 for 1", LINE HOST "Expect: \x11" "00-continue\r\n" END, BAD_REQUEST),

    /* The order of reasons */
    REFUSED("413 before 417", LINE HOST "Expect: tea\r\nContent-Length: 5000\r\n" END, BODY_CAP),
    REFUSED("417 before 405", "BREW / HTTP/1.1\r\n" HOST "Expect: tea\r\n" END, EXPECTATION),
    REFUSED("400 before 501", LINE "Transfer-Encoding: gzip\r\n" END, BAD_REQUEST),
    REFUSED("501 before 405", "BREW / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n" END, NOT_IMPLEMENTED),
    REFUSED("505 before a bad field", "GET / HTTP/2.0\r\n: x\r\n" END, HTTP_VERSION),
};

static bool has_flags(const struct framing_head *head, const char *flags)
{
    return head->is_http10 == (strchr(flags, '0') != NULL) && head->is_head == (strchr(flags, 'h') != NULL) &&
           head->wants_close == (strchr(flags, 'x') != NULL) && head->expects_continue == (strchr(flags, 'e') != NULL) &&
           head->is_chunked == (strchr(flags, 'k') != NULL);
}

static void check_head(const struct head_case *c)
{
    const struct answer answer = feed(c->in, c->length, c->length, 1, &LIMITS);
    const struct framing_head *const head = &answer.head;
    if (c->reason == MORE) {
        check(answer.status == FRAMING_MORE, c->name, "should wait");
    } else if (c->reason != FRAMING_OK) {
        check(answer.status == FRAMING_REFUSED && (int)head->reason == c->reason, c->name, framing_reason_name(head->reason));
        check(head->length == 0, c->name, "output of what is refused");
    } else {
        const char *const out = c->out == NULL ? c->in : c->out;
        check(answer.status == FRAMING_DONE, c->name, framing_reason_name(head->reason));
        check(head->length == strlen(out) && memcmp(answer.out, out, head->length) == 0, c->name, "normal form");
        check(has_flags(head, c->flags), c->name, "flags");
        check(head->content_length == c->content_length, c->name, "content_length");
        check(head->consumed >= 4 && memcmp(c->in + head->consumed - 4, "\r\n\r\n", 4) == 0, c->name, "consumed");
    }
    check(is_split_blind(c->in, c->length, &LIMITS, 1), c->name, "cut anywhere");
    free(answer.out);
}

static void check_heads(void)
{
    for (size_t i = 0; i < sizeof HEADS / sizeof *HEADS; i++)
        check_head(&HEADS[i]);
}

/* ---- families ---- */

static enum framing_reason reason_of(const char *bytes, size_t length, const struct framing_limits *limits)
{
    const struct answer answer = feed(bytes, length, length, 1, limits);
    free(answer.out);
    return answer.status == FRAMING_MORE ? FRAMING_REASONS : answer.head.reason;
}

static const char TCHARS[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
static const char PCHARS[] = "-._~!$&'()*+,;=:@/[]|^0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
static const char HOST_CHARS[] = "-._~!$&'()*+,;=0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

static bool is_in(int c, const char *set)
{
    return c != 0 && strchr(set, c) != NULL;
}

/* Every byte at a place of the grammar, which '$' marks. A byte that does not belong there gives 400 or `refusal`. */
static void check_every_byte(const char *name, const char *pattern, const char *set, const char *also, bool obs_text,
                             enum framing_reason refusal)
{
    char head[256], what[32];
    const size_t length = strlen(pattern);
    for (int c = 0; c < 256; c++) {
        memcpy(head, pattern, length);
        *(char *)memchr(head, '$', length) = (char)c;
        const bool allowed = is_in(c, set) || is_in(c, also) || (obs_text && c >= 128);
        const enum framing_reason reason = reason_of(head, length, &LIMITS);
        snprintf(what, sizeof what, "byte %02x", (unsigned)c);
        check((reason == FRAMING_OK) == allowed && (allowed || reason == refusal || reason == FRAMING_BAD_REQUEST),
              name, what);
        check(is_split_blind(head, length, &LIMITS, 1), name, what);
    }
}

static void check_alphabets(void)
{
    check_every_byte("path", "GET /a$c HTTP/1.1\r\nHost: a\r\n\r\n", PCHARS, "?", false, FRAMING_BAD_REQUEST);
    check_every_byte("query", "GET /?a$c HTTP/1.1\r\nHost: a\r\n\r\n", PCHARS, "?{}\\`", false, FRAMING_BAD_REQUEST);
    check_every_byte("name", "GET / HTTP/1.1\r\nHost: a\r\nA$B: c\r\n\r\n", TCHARS, ":", false, FRAMING_BAD_REQUEST);
    check_every_byte("value", "GET / HTTP/1.1\r\nHost: a\r\nA: b$cccccccccccc\r\n\r\n", TCHARS, " \t\"(),/:;<=>?@[\\]{}", true, FRAMING_BAD_REQUEST);
    check_every_byte("value, ninth byte", "GET / HTTP/1.1\r\nHost: a\r\nA: bbbbbbbb$\r\n\r\n", TCHARS, " \t\"(),/:;<=>?@[\\]{}", true, FRAMING_BAD_REQUEST);
    check_every_byte("host", "GET / HTTP/1.1\r\nHost: a$\r\n\r\n", HOST_CHARS, ": \t", false, FRAMING_BAD_REQUEST);
    check_every_byte("authority", "GET http://a$/ HTTP/1.1\r\nHost: a\r\n\r\n", HOST_CHARS, ":/?", false, FRAMING_BAD_REQUEST);
    check_every_byte("method", "G$T / HTTP/1.1\r\nHost: a\r\n\r\n", "E", "", false, FRAMING_METHOD);
    check_every_byte("escape 1", "GET /%$0 HTTP/1.1\r\nHost: a\r\n\r\n", "0123456789abcdefABCDEF", "", false, FRAMING_BAD_REQUEST);
    check_every_byte("escape 2", "GET /?%0$ HTTP/1.1\r\nHost: a\r\n\r\n", "0123456789abcdefABCDEF", "", false, FRAMING_BAD_REQUEST);
    check_every_byte("length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1$\r\n\r\n", "0123456789", " \t", false, FRAMING_BAD_REQUEST);
    check_every_byte("version", "GET / HTTP/1.$\r\nHost: a\r\n\r\n", "1", "0", false, FRAMING_HTTP_VERSION);
}

static void check_every_byte_of_version_is_505_or_400(void)
{
    for (int major = 0; major < 10; major++)
        for (int minor = 0; minor < 10; minor++) {
            char head[64];
            const int length = snprintf(head, sizeof head, "GET / HTTP/%d.%d\r\nHost: a\r\n\r\n", major, minor);
            check(reason_of(head, (size_t)length, &LIMITS) == (major == 1 && minor < 2 ? FRAMING_OK : FRAMING_HTTP_VERSION),
                  "version", head);
        }
}

static void check_corr_id(void)
{
    static const struct {
        const char *value;
        bool is_sane;
    } cases[] = {{"abc-123_X.Y:Z", true}, {"a b", false}, {"", false}, {"a\"", false}, {"a\xe9", false}, {"a/b", false}};
    char head[512], long_id[130];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int length = snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: a\r\nx-corr-id:  %s \r\n\r\n", cases[i].value);
        const struct answer answer = feed(head, (size_t)length, (size_t)length, 1, &LIMITS);
        const struct framing_span span = answer.head.corr_id;
        check(answer.status == FRAMING_DONE && (span.start < span.stop) == cases[i].is_sane, "corr_id", cases[i].value);
        check(!cases[i].is_sane || (span.stop - span.start == strlen(cases[i].value) &&
                                    memcmp(head + span.start, cases[i].value, span.stop - span.start) == 0), "corr_id", "span");
        free(answer.out);
    }
    for (size_t size = 128; size <= 129; size++) {
        memset(long_id, 'a', size);
        long_id[size] = '\0';
        const int length = snprintf(head, sizeof head, "\r\nGET / HTTP/1.1\r\nX-Corr-ID: %s\r\n\r\n", long_id);
        const struct answer answer = feed(head, (size_t)length, (size_t)length, 1, &LIMITS);
        check(answer.status == FRAMING_REFUSED && answer.head.consumed == (size_t)length, "corr_id", "refused head");
        check(answer.head.corr_id.stop - answer.head.corr_id.start == (size == 128 ? 128 : 0), "corr_id", "length");
        free(answer.out);
    }
}

static void check_refused_head_is_described(void)
{
    struct answer answer = feed(S("HEAD / HTTP/1.1\r\nHost : a"), 4, 1, &LIMITS);
    check(answer.status == FRAMING_MORE, "HEAD", "waits");
    free(answer.out);
    answer = feed(S("HEAD / HTTP/1.1\r\nHost : a\r\n"), 4, 1, &LIMITS);
    check(answer.head.is_head && answer.head.wants_close && answer.head.consumed == 0, "HEAD", "refused early");
    free(answer.out);
    answer = feed(S("BREW / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nlet"), 4, 1, &LIMITS);
    check(answer.head.reason == FRAMING_METHOD && answer.head.consumed == 47 && answer.head.content_length == 7 &&
              !answer.head.wants_close, "BREW", "the connection may be kept");
    free(answer.out);
}

static void check_pipelined_heads(void)
{
    static const char two[] = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    struct framing_scan scan = {0};
    struct framing_head head;
    char out[8192 + FRAMING_GROWTH];
    check(framing_head(two, sizeof two - 1, &scan, &LIMITS, out, sizeof out, &head) == FRAMING_DONE &&
              head.consumed == 28 && memcmp(out, "GET /1 ", 7) == 0, "pipelined", "first");
    scan = (struct framing_scan){0};
    check(framing_head(two + 28, sizeof two - 29, &scan, &LIMITS, out, sizeof out, &head) == FRAMING_DONE &&
              head.consumed == 30 && memcmp(out, "GET /2 ", 7) == 0, "pipelined", "second");
    /* A byte of the next one behind it: the defect that ends plain bjoern. */
    scan = (struct framing_scan){0};
    check(framing_head(two, 29, &scan, &LIMITS, out, sizeof out, &head) == FRAMING_DONE && head.consumed == 28 &&
              head.length == 28, "pipelined", "one byte more");
}

/* ---- limits at their boundary ---- */

static void check_head_cap(void)
{
    char head[512];
    for (size_t size = 40; size <= 300; size += 13) {
        const struct framing_limits limits = {.head_bytes = size, .target_bytes = 2048, .fields = 100};
        for (int over = -1; over <= 1; over++) {
            const size_t length = size + (size_t)over;
            memset(head, 'x', length);
            memcpy(head, "GET / HTTP/1.1\r\nHost: a\r\nX:", 27);
            memcpy(head + length - 4, "\r\n\r\n", 4);
            check(reason_of(head, length, &limits) == (over > 0 ? FRAMING_HEADER_CAP : FRAMING_OK), "head_bytes", "boundary");
            check(is_split_blind(head, length, &limits, 1), "head_bytes", "cut anywhere");
            check(reason_of(head, length - 1, &limits) == (over > 0 ? FRAMING_HEADER_CAP : FRAMING_REASONS), "head_bytes",
                  "said as soon as it is sure");
        }
    }
}

static void check_target_cap(void)
{
    char head[512];
    for (size_t most = 1; most <= 200; most += 7) {
        const struct framing_limits limits = {.head_bytes = 8192, .target_bytes = most, .fields = 100};
        for (size_t size = most; size <= most + 1; size++) {
            memcpy(head, "GET /", 5);
            memset(head + 5, 'a', size - 1);
            memcpy(head + 4 + size, " HTTP/1.1\r\nHost: a\r\n\r\n", 22);
            check(reason_of(head, size + 26, &limits) == (size > most ? FRAMING_URI_CAP : FRAMING_OK), "target_bytes", "boundary");
            check(reason_of(head, size + 4, &limits) == (size > most ? FRAMING_URI_CAP : FRAMING_REASONS), "target_bytes",
                  "said at the byte that is too many");
            check(is_split_blind(head, size + 26, &limits, 1), "target_bytes", "cut anywhere");
            head[6] = '\x01';
            check(reason_of(head, size + 26, &limits) == (size > 2 ? FRAMING_BAD_REQUEST : reason_of(head, size + 26, &limits)),
                  "target_bytes", "what comes first is the reason");
            check(is_split_blind(head, size + 26, &limits, 1), "target_bytes", "cut anywhere, with a control");
        }
    }
}

static void check_field_cap(void)
{
    static char head[8192];
    for (unsigned most = 1; most <= FRAMING_MAX_FIELDS + 2; most += most < 4 ? 1 : 21) {
        const unsigned effective = most < FRAMING_MAX_FIELDS ? most : FRAMING_MAX_FIELDS;
        const struct framing_limits limits = {.head_bytes = sizeof head, .target_bytes = 2048, .fields = most};
        for (unsigned fields = effective; fields <= effective + 1; fields++) {
            size_t length = (size_t)sprintf(head, "GET / HTTP/1.1\r\nHost: a\r\n");
            for (unsigned i = 1; i < fields; i++)
                length += (size_t)sprintf(head + length, "X%u: %u\r\n", i % 50, i);
            length += (size_t)sprintf(head + length, "\r\n");
            check(reason_of(head, length, &limits) == (fields > effective ? FRAMING_HEADER_CAP : FRAMING_OK), "fields", "boundary");
            check(reason_of(head, length - 2, &limits) == (fields > effective ? FRAMING_HEADER_CAP : FRAMING_REASONS), "fields",
                  "said at the line that is too many");
            check(is_split_blind(head, length, &limits, 37), "fields", "cut anywhere");
        }
    }
}

static void check_connection_options(void)
{
    char head[512] = "GET / HTTP/1.1\r\nHost: a\r\nConnection: a";
    for (unsigned options = 1; options <= 34; options++) {
        char whole[600];
        const int length = snprintf(whole, sizeof whole, "%s\r\n\r\n", head);
        check(reason_of(whole, (size_t)length, &LIMITS) == (options > 32 ? FRAMING_BAD_REQUEST : FRAMING_OK), "options", "32");
        strcat(head, ", ,b");
    }
}

static void check_largest_head(void)
{
    const struct framing_limits limits = {.head_bytes = SIZE_MAX / 2, .target_bytes = SIZE_MAX, .fields = 200, .body_bytes = UINT64_MAX};
    const size_t most = FRAMING_MAX_HEAD;
    char *const head = malloc(most + 10);
    for (size_t length = most; length <= most + 1; length++) {
        memset(head, 'a', length);
        memcpy(head, "GET http://b??", 14);
        memcpy(head + length - 13, " HTTP/1.0\r\n\r\n", 13);
        const struct answer answer = feed(head, length, length, 1, &limits);
        check(answer.head.reason == (length > most ? FRAMING_HEADER_CAP : FRAMING_OK), "largest head", "cap");
        check(length > most || answer.head.length == 65536, "largest head", "fills bjoern's buffer");
        check(is_split_blind(head, length, &limits, 9973), "largest head", "cut anywhere");
        free(answer.out);
    }
    free(head);
}

static void check_small_output(void)
{
    static const char in[] = "GET http://b??d HTTP/1.0\r\n\r\n";
    for (size_t size = 0; size < 40; size++) {
        struct framing_scan scan = {0};
        struct framing_head head;
        char *const out = malloc(size + (size == 0));
        const enum framing_status status = framing_head(in, sizeof in - 1, &scan, &LIMITS, out, size, &head);
        check(size >= sizeof in - 1 + FRAMING_GROWTH ? status == FRAMING_DONE && head.length == sizeof in - 1 + FRAMING_GROWTH
                                                     : status == FRAMING_REFUSED && head.reason == FRAMING_HEADER_CAP,
              "small output", "never overrun");
        free(out);
    }
}

/* Bytes looked at, as time: a head that comes byte by byte must not cost its square. */
static void check_byte_by_byte_is_linear(void)
{
    static char head[60000], out[65536];
    const struct framing_limits limits = {.head_bytes = sizeof head, .target_bytes = 30000, .fields = 100, .body_bytes = 0};
    memset(head, 'a', sizeof head);
    memcpy(head, "GET /", 5);
    memcpy(head + 29000, " HTTP/1.1\r\nHost: a\r\nX: ", 23);
    memcpy(head + sizeof head - 4, "\r\n\r\n", 4);
    struct framing_scan scan = {0};
    struct framing_head answer;
    enum framing_status status = FRAMING_MORE;
    for (size_t come = 0; come <= sizeof head && status == FRAMING_MORE; come++) {
        const size_t before = scan.scanned;
        status = framing_head(head, come, &scan, &limits, out, sizeof out, &answer);
        if (status == FRAMING_MORE && scan.scanned - before > 1)
            check(false, "byte by byte", "scanned is left behind");
    }
    check(status == FRAMING_DONE && answer.consumed == sizeof head, "byte by byte", "60,000 bytes");
}

/* ---- properties ---- */

static uint64_t seed;

static uint32_t any(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % below;
}

static const char *const PARTS[] = {
    "\r\n", "\r", "\n", " ", "\t", ":", ",", "%", "%41", "%zz", "?", "??", "#", "*", "/", "http://", "https://x:1", "\0", "\x7f", "\x80",
    "Host: b\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close, x-a\r\n", "X-A: 1\r\n", "X_A: 2\r\n",
    "Expect: 100-continue\r\n", "Range: bytes=0-1\r\n", "Cookie: a=b\r\n", "x-a:\t2 \r\n", "GET", "OPTIONS", "CONNECT", "HTTP/1.0", "HTTP/1.1",
    "\r\n\r\n", " :", "\r\n ", "[::1]", "Accept:a\r\n", "TE: trailers\r\n", "X-Corr-ID: abc\r\n", "Connection: keep-alive\r\n",
};

static size_t mutate(char *bytes, size_t length, size_t room_left)
{
    for (uint32_t edits = 1 + any(3); edits > 0; edits--) {
        const size_t at = any((uint32_t)length + 1);
        const char *const part = PARTS[any(sizeof PARTS / sizeof *PARTS)];
        const size_t size = *part == '\0' ? 1 : strlen(part);
        switch (any(4)) {
        case 0:
            if (at < length)
                bytes[at] = (char)any(256);
            break;
        case 1:
            if (length + size <= room_left) {
                memmove(bytes + at + size, bytes + at, length - at);
                memcpy(bytes + at, part, size);
                length += size;
            }
            break;
        case 2:
            if (at < length) {
                const size_t cut = 1 + any((uint32_t)(length - at < 6 ? length - at : 6));
                memmove(bytes + at, bytes + at + cut, length - at - cut);
                length -= cut;
            }
            break;
        default:
            if (at + size <= length)
                memcpy(bytes + at, part, size);
        }
    }
    return length;
}

static bool has_host(const char *out, size_t length)
{
    for (size_t i = 0; i + 7 < length; i++)
        if (out[i] == '\n' && (out[i + 1] | 0x20) == 'h' && (out[i + 2] | 0x20) == 'o' && (out[i + 3] | 0x20) == 's' &&
            (out[i + 4] | 0x20) == 't' && out[i + 5] == ':')
            return true;
    return false;
}

/* The normal form is its own, and frames nothing. */
static bool is_normal(const struct answer *answer)
{
    if (!has_host(answer->out, answer->head.length))
        return answer->head.is_http10;
    struct framing_limits limits = LIMITS;
    limits.head_bytes += FRAMING_GROWTH;
    limits.target_bytes += FRAMING_GROWTH;
    const struct answer again = feed(answer->out, answer->head.length, answer->head.length, 1, &limits);
    const bool same = again.status == FRAMING_DONE && again.head.length == answer->head.length &&
                      memcmp(again.out, answer->out, again.head.length) == 0 && again.head.content_length == 0 &&
                      !again.head.is_chunked && !again.head.wants_close && !again.head.expects_continue;
    free(again.out);
    return same;
}

static void check_mutations(void)
{
    static const char *const bases[] = {
        "GET /a/b?c=d HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nConnection: keep-alive\r\n\r\n",
        "POST http://h:80/p%20q HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nX-A: 1\r\nX-A: 2\r\n\r\nabc",
        "OPTIONS * HTTP/1.1\r\nHost: [::1]:8080\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n",
        "HEAD / HTTP/1.0\r\nConnection: Keep-Alive, x-a\r\nX-A: 1\r\nCookie: a\r\nCookie: b\r\nX-Corr-ID: 77\r\n\r\n",
    };
    const unsigned rounds = 20000;
    unsigned reasons[FRAMING_REASONS + 1] = {0}, wrong = 0;
    char bytes[1024];
    seed = 20260117;
    for (unsigned round = 0; round < rounds; round++) {
        const char *const base = bases[any(4)];
        size_t length = strlen(base);
        memcpy(bytes, base, length);
        length = mutate(bytes, length, sizeof bytes);
        const struct answer whole = feed(bytes, length, length, 1, &LIMITS);
        const bool right = (whole.status != FRAMING_DONE || is_normal(&whole)) && is_split_blind(bytes, length, &LIMITS, 11);
        if (!right && wrong++ < 5)
            printf("FAILED mutation %u: %.*s\n", round, (int)length, bytes);
        reasons[whole.status == FRAMING_MORE ? FRAMING_REASONS : whole.head.reason]++;
        free(whole.out);
    }
    check(wrong == 0, "mutations", "cut anywhere, normal form");
    check(reasons[FRAMING_OK] > rounds / 10 && reasons[FRAMING_BAD_REQUEST] > rounds / 10, "mutations", "reach both sides");
    printf("%u mutations:", rounds);
    for (int i = 0; i < FRAMING_REASONS; i++)
        printf(" %s %u", framing_reason_name((enum framing_reason)i), reasons[i]);
    printf(" more %u\n", reasons[FRAMING_REASONS]);
}

/* ---- chunked bodies ---- */

struct chunked_case {
    const char *name, *in;
    size_t length;
    int reason;
    uint64_t total;
    size_t rest; /* bytes behind the body */
};

#define BODY(name, in, total) {name, S(in), FRAMING_OK, total, 0}
#define BODY_REFUSED(name, in, reason) {name, S(in), FRAMING_##reason, 0, 0}

/* What is refused ends with the byte that it is refused for. */
static const struct chunked_case BODIES[] = {
    BODY("empty", "0\r\n\r\n", 0),
    BODY("zeros", "0000\r\n\r\n", 0),
    BODY("one chunk", "5\r\nhello\r\n0\r\n\r\n", 5),
    BODY("two chunks", "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", 6),
    BODY("leading zeros", "0000000000000005\r\nhello\r\n0\r\n\r\n", 5),
    BODY("hex", "a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n", 21),
    BODY("content of CR LF", "4\r\n\r\n\r\n\r\n0\r\n\r\n", 4),
    BODY("extension", "1;a\r\nx\r\n0;b=c\r\n\r\n", 1),
    BODY("extensions", "1 ; a = b;c=\"d;\\\"\" ; e\r\nx\r\n0\r\n\r\n", 1),
    BODY("quoted extension", "1;a=\"b c\\\"d\"\r\nx\r\n0\r\n\r\n", 1),
    BODY("trailers", "0\r\nA: b\r\nC:\r\n\r\n", 0),
    {"bytes behind", S("1\r\nx\r\n0\r\n\r\nGET /"), FRAMING_OK, 1, 5},
    {"not yet", S("5\r\nhel"), MORE, 5, 0},
    {"no end", S("5\r\nhello\r\n0\r\n"), MORE, 5, 0},
    {"at the cap", S("3e8\r\n"), MORE, 1000, 0},
    BODY_REFUSED("over the cap", "3e9", BODY_CAP),
    BODY_REFUSED("over the cap together", "1\r\nx\r\n3e8", BODY_CAP),
    BODY_REFUSED("three digits, over the cap", "fff", BODY_CAP),
    BODY_REFUSED("17 digits", "00000000000000005", BAD_REQUEST),
    BODY_REFUSED("no size", "\r", BAD_REQUEST),
    BODY_REFUSED("no size, an extension", ";", BAD_REQUEST),
    BODY_REFUSED("0x5", "0x", BAD_REQUEST),
    BODY_REFUSED("+5", "+", BAD_REQUEST),
    BODY_REFUSED("-1", "-", BAD_REQUEST),
    BODY_REFUSED("space before the size", " ", BAD_REQUEST),
    BODY_REFUSED("space after the size", "5 \r", BAD_REQUEST),
    BODY_REFUSED("g", "g", BAD_REQUEST),
    BODY_REFUSED("5_0", "5_", BAD_REQUEST),
    BODY_REFUSED("vertical tab", "5\v", BAD_REQUEST),
    BODY_REFUSED("size with bare LF", "5\n", BAD_REQUEST),
    BODY_REFUSED("size with bare CR", "5\rh", BAD_REQUEST),
    BODY_REFUSED("size with CR CR LF", "5\r\r", BAD_REQUEST),
    BODY_REFUSED("chunk longer than its size", "5\r\nhello!", BAD_REQUEST),
    BODY_REFUSED("chunk shorter than its size", "6\r\nhello\r\n", BAD_REQUEST),
    BODY_REFUSED("chunk ends in bare LF", "5\r\nhello\n", BAD_REQUEST),
    BODY_REFUSED("chunk ends in bare CR", "5\r\nhello\r0", BAD_REQUEST),
    BODY_REFUSED("chunk without end", "5\r\nhello0", BAD_REQUEST),
    BODY_REFUSED("extension with LF", "5;a\n", BAD_REQUEST),
    BODY_REFUSED("extension with NUL", "5;a\0", BAD_REQUEST),
    BODY_REFUSED("extension with bare CR", "5;a\rb", BAD_REQUEST),
    BODY_REFUSED("extension without name", "5;\r", BAD_REQUEST),
    BODY_REFUSED("extension without value", "5;a=\r", BAD_REQUEST),
    BODY_REFUSED("extension of two words", "5;a b", BAD_REQUEST),
    BODY_REFUSED("extension, space at the end", "5;a \r", BAD_REQUEST),
    BODY_REFUSED("extension, two values", "5;a=b=", BAD_REQUEST),
    BODY_REFUSED("extension, quote with LF", "5;a=\"\n", BAD_REQUEST),
    BODY_REFUSED("extension, quote and text", "5;a=\"b\"c", BAD_REQUEST),
    BODY_REFUSED("extension, no semicolon", "5 a", BAD_REQUEST),
    BODY_REFUSED("extension, value of no token", "5;a=,", BAD_REQUEST),
    BODY_REFUSED("extension, quoted and a quote", "5;a=\"b\"\"", BAD_REQUEST),
    BODY_REFUSED("extension, two quotes", "5;a=\"b\" \"", BAD_REQUEST),
    BODY_REFUSED("extension, DEL in a pair", "5;a=\"\\\x7f", BAD_REQUEST),
    BODY_REFUSED("extension, name of no token", "5;,", BAD_REQUEST),
    BODY_REFUSED("extension, name ends in a comma", "5;a,", BAD_REQUEST),
    BODY_REFUSED("size and a value", "5=", BAD_REQUEST),
    BODY_REFUSED("size, a space and a value", "5 =", BAD_REQUEST),
    BODY_REFUSED("extension, value and a space and a value", "5;a=b =", BAD_REQUEST),
    BODY_REFUSED("last chunk with bare LF", "0\n", BAD_REQUEST),
    BODY_REFUSED("end with bare LF", "0\r\n\n", BAD_REQUEST),
    BODY_REFUSED("end with CR and a byte", "0\r\n\rX", BAD_REQUEST),
    BODY_REFUSED("trailer with a space", "0\r\nA ", BAD_REQUEST),
    BODY_REFUSED("trailer folded", "0\r\nA: b\r\n ", BAD_REQUEST),
    BODY_REFUSED("trailer without colon", "0\r\nGET ", BAD_REQUEST),
    BODY_REFUSED("trailer without name", "0\r\n:", BAD_REQUEST),
    BODY_REFUSED("trailer with NUL", "0\r\nA: \0", BAD_REQUEST),
    BODY_REFUSED("trailer with bare LF", "0\r\nA: b\n", BAD_REQUEST),
    BODY_REFUSED("trailer with bare CR", "0\r\nA: b\rc", BAD_REQUEST),
};

struct chunked_answer {
    enum framing_status status;
    enum framing_reason reason;
    uint64_t total;
    size_t consumed;
};

static struct chunked_answer feed_chunked(const char *bytes, size_t length, size_t first, size_t step, uint64_t cap)
{
    struct framing_chunked chunked;
    struct chunked_answer answer = {.status = FRAMING_MORE};
    framing_chunked_init(&chunked);
    for (size_t size = first; answer.status == FRAMING_MORE; size = step) {
        const size_t take = size < length - answer.consumed ? size : length - answer.consumed;
        char *const in = copy_of(bytes + answer.consumed, take);
        size_t consumed;
        answer.status = framing_chunked(&chunked, in, take, &consumed, cap);
        answer.consumed += consumed;
        free(in);
        if (answer.consumed == length)
            break;
    }
    answer.reason = chunked.reason;
    answer.total = chunked.total;
    return answer;
}

static bool is_same_body(struct chunked_answer a, struct chunked_answer b)
{
    return a.status == b.status && a.reason == b.reason && a.total == b.total && a.consumed == b.consumed;
}

static void check_bodies(void)
{
    for (size_t i = 0; i < sizeof BODIES / sizeof *BODIES; i++) {
        const struct chunked_case *const c = &BODIES[i];
        const struct chunked_answer answer = feed_chunked(c->in, c->length, c->length, 1, LIMITS.body_bytes);
        const int reason = answer.status == FRAMING_MORE ? MORE : (int)answer.reason;
        check(reason == c->reason, c->name, framing_reason_name(answer.reason));
        check((answer.status == FRAMING_REFUSED) == (answer.reason != FRAMING_OK), c->name, "status and reason");
        check(answer.consumed == c->length - c->rest, c->name, "consumed");
        if (c->reason <= FRAMING_OK)
            check(answer.total == c->total, c->name, "total");
        for (size_t cut = 0; cut <= c->length; cut++)
            check(is_same_body(answer, feed_chunked(c->in, c->length, cut, c->length + 1, LIMITS.body_bytes)), c->name, "cut anywhere");
        check(is_same_body(answer, feed_chunked(c->in, c->length, 1, 1, LIMITS.body_bytes)), c->name, "byte by byte");
    }
}

static void check_chunked_bounds(void)
{
    static char body[20000];
    for (unsigned over = 0; over < 2; over++) {
        memset(body, 'a', sizeof body);
        memcpy(body, "1;", 2);
        memcpy(body + 1 + 4096 + over, "\r\nx\r\n0\r\n\r\n", 10);
        check(feed_chunked(body, 4107 + over, sizeof body, 1, 9).reason == (over ? FRAMING_BAD_REQUEST : FRAMING_OK), "extensions", "4096");
        memset(body, 'a', sizeof body);
        memcpy(body, "0\r\na:", 5);
        memcpy(body + 3 + 8191 + over, "\r\n\r\n", 4);
        const enum framing_reason reason = feed_chunked(body, 3 + 8191 + 4 + over, sizeof body, 1, 9).reason;
        check(reason == (over ? FRAMING_HEADER_CAP : FRAMING_OK), "trailers", "8192");
    }
    struct framing_chunked chunked;
    size_t consumed;
    framing_chunked_init(&chunked);
    check(framing_chunked(&chunked, "ffffffffffffffff\r\n", 18, &consumed, UINT64_MAX) == FRAMING_MORE && chunked.total == UINT64_MAX,
          "chunked", "the largest number");
    framing_chunked_init(&chunked);
    framing_chunked(&chunked, "0\r\n\r\n", 5, &consumed, 9);
    check(framing_chunked(&chunked, "0\r\n\r\n", 5, &consumed, 9) == FRAMING_DONE && consumed == 0, "chunked", "stays done");
    framing_chunked_init(&chunked);
    framing_chunked(&chunked, "x", 1, &consumed, 9);
    check(framing_chunked(&chunked, "0\r\n\r\n", 5, &consumed, 9) == FRAMING_REFUSED && consumed == 0, "chunked", "stays refused");
}

static void check_chunked_mutations(void)
{
    static const char base[] = "5;a=\"b\"\r\nhello\r\n0a ;c\r\n0123456789\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\n";
    unsigned wrong = 0, done = 0;
    char bytes[512];
    seed = 4711;
    for (unsigned round = 0; round < 20000; round++) {
        memcpy(bytes, base, sizeof base - 1);
        const size_t length = mutate(bytes, sizeof base - 1, sizeof bytes);
        const struct chunked_answer whole = feed_chunked(bytes, length, length, 1, 100);
        done += whole.status == FRAMING_DONE;
        for (size_t cut = 0; cut <= length; cut += 5)
            wrong += !is_same_body(whole, feed_chunked(bytes, length, cut, 1 + any(7), 100));
    }
    check(wrong == 0 && done > 1000, "chunked mutations", "cut anywhere");
}

static void check_reasons(void)
{
    static const struct {
        const char *name;
        int status;
    } reasons[] = {{"ok", 200},          {"bad_request", 400}, {"uri_cap", 414},         {"header_cap", 431},   {"body_cap", 413},
                   {"expectation", 417}, {"not_implemented", 501}, {"http_version", 505}, {"method", 405}};
    for (int i = 0; i < FRAMING_REASONS; i++)
        check(strcmp(framing_reason_name((enum framing_reason)i), reasons[i].name) == 0 &&
                  framing_reason_status((enum framing_reason)i) == reasons[i].status, "reason", reasons[i].name);
}

int main(void)
{
    check_heads();
    check_alphabets();
    check_every_byte_of_version_is_505_or_400();
    check_corr_id();
    check_refused_head_is_described();
    check_pipelined_heads();
    check_head_cap();
    check_target_cap();
    check_field_cap();
    check_connection_options();
    check_largest_head();
    check_small_output();
    check_byte_by_byte_is_linear();
    check_mutations();
    check_bodies();
    check_chunked_bounds();
    check_chunked_mutations();
    check_reasons();
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
