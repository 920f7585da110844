/* Finds out whether a text is JSON as Python reads it. Needs no stack: how deep it is, is counted. */
#include "internal.h"

#include <string.h>

#define DEPTH_MAX 1000

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

/* Behind the string that begins here; NULL with the place of the fault in `*at` if it is none. */
static const char *string_end(const char **at, const char *end) {
    const char *p = *at + 1;
    while (p < end && *p != '"') {
        if ((unsigned char)*p < 0x20) {
            *at = p;
            return NULL;
        }
        if (*p != '\\') {
            p++;
            continue;
        }
        *at = p++;
        if (p == end || *p == 0 || strchr("\"\\/bfnrtu", *p) == NULL) {
            return NULL;
        }
        if (*p++ == 'u') {
            for (int i = 0; i < 4; i++, p++) {
                if (p == end || *p == 0 || strchr("0123456789abcdefABCDEF", *p) == NULL) {
                    return NULL;
                }
            }
        }
    }
    return p < end ? p + 1 : NULL;
}

const char *json_fault(const char *data, size_t length, size_t *place) {
    const char *at = data, *end = data + length;
    unsigned char is_object[(DEPTH_MAX + 7) / 8] = {0};
    unsigned depth = 0;
    bool wants_value = true, may_close = false;
    const char *fault = "is no JSON";
#define IN_OBJECT (depth > 0 && (is_object[(depth - 1) / 8] >> ((depth - 1) % 8) & 1))
    for (;;) {
        while (at < end && is_space(*at)) {
            at++;
        }
        if (at == end) {
            if (depth == 0 && !wants_value) {
                return NULL;
            }
            fault = "ends too early";
            break;
        }
        if ((*at == ']' || *at == '}') && depth > 0 && (may_close || !wants_value)) {
            if ((*at == '}') != IN_OBJECT) {
                break;
            }
            depth--;
            at++;
            wants_value = may_close = false;
            continue;
        }
        if (!wants_value) {
            if (*at != ',' || depth == 0) {
                fault = depth == 0 ? "has more behind its end" : fault;
                break;
            }
            at++;
            wants_value = true;
            may_close = false;
            continue;
        }
        if (IN_OBJECT) {
            const char *behind = *at == '"' ? string_end(&at, end) : NULL;
            if (behind == NULL) {
                break;
            }
            at = behind;
            while (at < end && is_space(*at)) {
                at++;
            }
            if (at == end || *at != ':') {
                break;
            }
            at++;
            while (at < end && is_space(*at)) {
                at++;
            }
            if (at == end) {
                continue;
            }
        }
        if (*at == '[' || *at == '{') {
            if (depth == DEPTH_MAX) {
                fault = "is nested too deep";
                break;
            }
            unsigned char bit = (unsigned char)(1u << (depth % 8));
            unsigned char *byte = &is_object[depth / 8];
            *byte = *at == '{' ? (unsigned char)(*byte | bit) : (unsigned char)(*byte & ~bit);
            depth++;
            at++;
            may_close = true;
            continue;
        }
        if (*at == '"') {
            const char *behind = string_end(&at, end);
            if (behind == NULL) {
                break;
            }
            at = behind;
        } else {
            const char *start = at;
            while (at < end && strchr(",:[]{}\" \n\r\t", *at) == NULL) {
                at++;
            }
            if (th_json_kind((th_json){start, (size_t)(at - start)}) == TH_MISSING) {
                at = start;
                break;
            }
        }
        wants_value = may_close = false;
    }
#undef IN_OBJECT
    *place = (size_t)(at - data);
    return fault;
}

bool th_json_parse(th_call *call, const char *data, size_t length, th_json *out) {
    size_t at = 0;
    text valid = valid_utf8(call, (text){data, length});
    const char *fault = "is not UTF-8";
    if (valid.data == data) {
        fault = json_fault(data, length, &at);
    }
    if (fault == NULL) {
        *out = (th_json){data, length};
        return true;
    }
    const char *place = digits(call, at);
    make_error(call, "JSONDecodeError", TH_OTHER, join(call, "the text ", fault, " (at byte ", place, ")", NULL));
    th_error_module(call->last_error, "json.decoder");
    return false;
}
