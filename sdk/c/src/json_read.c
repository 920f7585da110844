/*
 * Reads JSON as Python writes it, out of its text and without a copy of it.
 *
 * Values that the host gave are well formed; nothing here relies on it, though: of malformed text one gets malformed pieces,
 * never a byte that is not in it.
 */
#include "internal.h"

#include <math.h>
#include <string.h>

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static th_json trim(th_json json) {
    if (json.text == NULL) {
        return json;
    }
    while (json.length > 0 && is_space(json.text[0])) {
        json.text++;
        json.length--;
    }
    while (json.length > 0 && is_space(json.text[json.length - 1])) {
        json.length--;
    }
    return json;
}

static bool same(th_json json, const char *word) {
    size_t length = strlen(word);
    return json.length == length && memcmp(json.text, word, length) == 0;
}

th_json json_of(const char *text) { return (th_json){text, text == NULL ? 0 : strlen(text)}; }

/* What a number is; the other kinds are told by their first character. */
static th_kind number_kind(th_json json) {
    size_t i = json.text[0] == '-';
    if (i == json.length || !is_digit(json.text[i]) || (json.text[i] == '0' && i + 1 < json.length && is_digit(json.text[i + 1]))) {
        return TH_MISSING;
    }
    while (i < json.length && is_digit(json.text[i])) {
        i++;
    }
    if (i == json.length) {
        return TH_INT;
    }
    if (json.text[i] == '.') {
        size_t start = ++i;
        while (i < json.length && is_digit(json.text[i])) {
            i++;
        }
        if (i == start) {
            return TH_MISSING;
        }
    }
    if (i < json.length && (json.text[i] == 'e' || json.text[i] == 'E')) {
        i++;
        i += i < json.length && (json.text[i] == '+' || json.text[i] == '-');
        size_t start = i;
        while (i < json.length && is_digit(json.text[i])) {
            i++;
        }
        if (i == start) {
            return TH_MISSING;
        }
    }
    return i == json.length ? TH_FLOAT : TH_MISSING;
}

th_kind th_json_kind(th_json json) {
    json = trim(json);
    if (json.text == NULL || json.length == 0) {
        return TH_MISSING;
    }
    char last = json.text[json.length - 1];
    switch (json.text[0]) {
    case '{':
        return last == '}' ? TH_OBJECT : TH_MISSING;
    case '[':
        return last == ']' ? TH_ARRAY : TH_MISSING;
    case '"':
        return last == '"' && json.length > 1 ? TH_STRING : TH_MISSING;
    case 'n':
        return same(json, "null") ? TH_NULL : TH_MISSING;
    case 't':
        return same(json, "true") ? TH_BOOL : TH_MISSING;
    case 'f':
        return same(json, "false") ? TH_BOOL : TH_MISSING;
    case 'N':
        return same(json, "NaN") ? TH_FLOAT : TH_MISSING;
    case 'I':
        return same(json, "Infinity") ? TH_FLOAT : TH_MISSING;
    case '-':
        return same(json, "-Infinity") ? TH_FLOAT : number_kind(json);
    default:
        return number_kind(json);
    }
}

bool th_json_int(th_json json, int64_t *out) {
    json = trim(json);
    if (th_json_kind(json) != TH_INT) {
        return false;
    }
    bool is_negative = json.text[0] == '-';
    /* Counts downward, since there is one more negative number. */
    int64_t value = 0;
    for (size_t i = is_negative; i < json.length; i++) {
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_sub_overflow(value, json.text[i] - '0', &value)) {
            return false;
        }
    }
    if (!is_negative) {
        if (value == INT64_MIN) {
            return false;
        }
        value = -value;
    }
    *out = value;
    return true;
}

bool th_json_double(th_json json, double *out) {
    json = trim(json);
    th_kind kind = th_json_kind(json);
    if (kind != TH_INT && kind != TH_FLOAT) {
        return false;
    }
    if (same(json, "NaN")) {
        *out = (double)NAN;
        return true;
    }
    if (same(json, "Infinity") || same(json, "-Infinity")) {
        *out = json.text[0] == '-' ? -(double)INFINITY : (double)INFINITY;
        return true;
    }
    *out = read_double(json.text, json.length);
    return true;
}

bool th_json_bool(th_json json, bool *out) {
    json = trim(json);
    if (th_json_kind(json) != TH_BOOL) {
        return false;
    }
    *out = json.text[0] == 't';
    return true;
}

/* ---- Strings ---------------------------------------------------------------------------------------------------- */

static bool hex4(const char *at, const char *end, unsigned *out) {
    if (end - at < 4) {
        return false;
    }
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        unsigned digit;
        if (is_digit(c)) {
            digit = (unsigned)(c - '0');
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            digit = (unsigned)((c | 0x20) - 'a') + 10;
        } else {
            return false;
        }
        *out = *out * 16 + digit;
    }
    return true;
}

/* The bytes of the character after which `*at` stands then; 0 if it is none. */
static size_t next_character(const char **at, const char *end, char out[4]) {
    char c = *(*at)++;
    if (c != '\\') {
        out[0] = c;
        return 1;
    }
    if (*at == end) {
        return 0;
    }
    c = *(*at)++;
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *name = c == 0 ? NULL : strchr(names, c);
    if (name != NULL) {
        out[0] = values[name - names];
        return 1;
    }
    unsigned code, low;
    if (c != 'u' || !hex4(*at, end, &code)) {
        return 0;
    }
    *at += 4;
    if (code >= 0xD800 && code < 0xDC00 && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u' &&
        hex4(*at + 2, end, &low) && low >= 0xDC00 && low < 0xE000) {
        *at += 6;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

bool decode(th_call *call, th_json string, text *out) {
    string = trim(string);
    if (th_json_kind(string) != TH_STRING) {
        return false;
    }
    const char *at = string.text + 1, *end = string.text + string.length - 1;
    if (at == end || memchr(at, '\\', (size_t)(end - at)) == NULL) {
        *out = (text){copy(call, at, (size_t)(end - at)), (size_t)(end - at)};
        return true;
    }
    /* No escape is shorter than what it stands for. */
    char *decoded = arena_take(call->arena, string.length, 1);
    size_t length = 0;
    while (at < end) {
        char character[4];
        size_t bytes = next_character(&at, end, character);
        if (bytes == 0) {
            return false;
        }
        memcpy(decoded + length, character, bytes);
        length += bytes;
    }
    decoded[length] = 0;
    *out = (text){decoded, length};
    return true;
}

const char *th_json_str(th_call *call, th_json json, size_t *length) {
    text decoded;
    if (!decode(call, json, &decoded)) {
        return NULL;
    }
    if (length != NULL) {
        *length = decoded.length;
    }
    return decoded.data;
}

bool key_is(th_json key, const char *name) {
    key = trim(key);
    if (th_json_kind(key) != TH_STRING) {
        return false;
    }
    const char *at = key.text + 1, *end = key.text + key.length - 1;
    while (at < end) {
        char character[4];
        size_t bytes = next_character(&at, end, character);
        /* Of a name that ends here, the zero byte is the one that differs. */
        for (size_t i = 0; i < bytes; i++) {
            if (*name == 0 || *name++ != character[i]) {
                return false;
            }
        }
        if (bytes == 0) {
            return false;
        }
    }
    return *name == 0;
}

/* ---- Arrays and objects ----------------------------------------------------------------------------------------- */

static const char *skip_space(const char *at, const char *end) {
    while (at < end && is_space(*at)) {
        at++;
    }
    return at;
}

/* Behind the string that begins here; NULL if it does not end. */
static const char *skip_string(const char *at, const char *end) {
    for (at++; at < end; at++) {
        if (*at == '\\') {
            at++;
        } else if (*at == '"') {
            return at + 1;
        }
    }
    return NULL;
}

/* Behind the value that begins here; NULL if there is none. Looks at quotes and brackets alone. */
static const char *skip_value(const char *at, const char *end) {
    if (at == end) {
        return NULL;
    }
    if (*at == '"') {
        return skip_string(at, end);
    }
    if (*at != '[' && *at != '{') {
        const char *start = at;
        while (at < end && strchr(",:]}\" \n\r\t", *at) == NULL) {
            at++;
        }
        return at == start ? NULL : at;
    }
    size_t depth = 0;
    while (at < end) {
        if (*at == '"') {
            at = skip_string(at, end);
            if (at == NULL) {
                return NULL;
            }
            continue;
        }
        depth += *at == '[' || *at == '{';
        depth -= *at == ']' || *at == '}';
        at++;
        if (depth == 0) {
            return at;
        }
    }
    return NULL;
}

th_items th_json_items(th_json json) {
    json = trim(json);
    th_kind kind = th_json_kind(json);
    if ((kind != TH_ARRAY && kind != TH_OBJECT) || json.length < 2) {
        return (th_items){.close = 0};
    }
    return (th_items){.at = json.text + 1, .end = json.text + json.length - 1, .close = kind == TH_OBJECT ? '}' : ']'};
}

bool th_next(th_items *items) {
    if (items->close == 0) {
        return false;
    }
    const char *at = skip_space(items->at, items->end), *end = items->end;
    if (items->value.text != NULL && at < end && *at == ',') {
        at = skip_space(at + 1, end);
    }
    if (items->close == '}' && at < end) {
        const char *behind = *at == '"' ? skip_string(at, end) : NULL;
        if (behind == NULL) {
            items->close = 0;
            return false;
        }
        items->key = (th_json){at, (size_t)(behind - at)};
        at = skip_space(behind, end);
        if (at == end || *at != ':') {
            items->close = 0;
            return false;
        }
        at = skip_space(at + 1, end);
    }
    const char *behind = skip_value(at, end);
    if (behind == NULL) {
        items->close = 0;
        return false;
    }
    items->value = (th_json){at, (size_t)(behind - at)};
    items->at = behind;
    return true;
}

th_json th_json_get(th_json object, const char *name) {
    th_json found = NO_JSON;
    if (th_json_kind(object) != TH_OBJECT) {
        return found;
    }
    for (th_items it = th_json_items(object); th_next(&it);) {
        if (key_is(it.key, name)) {
            found = it.value;
        }
    }
    return found;
}

th_json th_json_at(th_json array, size_t index) {
    if (th_json_kind(array) != TH_ARRAY) {
        return NO_JSON;
    }
    for (th_items it = th_json_items(array); th_next(&it);) {
        if (index-- == 0) {
            return it.value;
        }
    }
    return NO_JSON;
}

size_t th_json_count(th_json json) {
    size_t count = 0;
    for (th_items it = th_json_items(json); th_next(&it);) {
        count++;
    }
    return count;
}
