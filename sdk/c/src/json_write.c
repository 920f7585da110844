/* Writes JSON: with a writer that knows where commas go, and by a format. */
#include "internal.h"

#include <math.h>
#include <string.h>

#define DEPTH_MAX (sizeof((th_writer *)0)->is_object * 8)

/* ---- Strings ---------------------------------------------------------------------------------------------------- */

/* How many bytes the character has that begins here, of which surrogates are three like their neighbours; 0 if it is none. */
static size_t character(const unsigned char *at, size_t left) {
    size_t length = at[0] >= 0xF0 ? 4 : at[0] >= 0xE0 ? 3 : 2;
    if (at[0] < 0xC2 || at[0] > 0xF4 || length > left) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    bool is_short = (at[0] == 0xE0 && at[1] < 0xA0) || (at[0] == 0xF0 && at[1] < 0x90);
    return is_short || (at[0] == 0xF4 && at[1] >= 0x90) ? 0 : length;
}

/* Writes what is between the quotes, or with no place to write only counts. */
static size_t escape(const char *text, size_t length, char *out) {
    static const char hex[] = "0123456789abcdef", named[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    size_t size = 0;
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)text[i];
        char piece[6];
        size_t bytes = 1, taken = 1;
        if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
            piece[0] = (char)c;
        } else if (c < 0x80) {
            const char *name = c == 0 ? NULL : strchr(named, c);
            piece[0] = '\\';
            if (name != NULL) {
                piece[1] = names[name - named];
                bytes = 2;
            } else {
                memcpy(piece + 1, "u00", 3);
                piece[4] = hex[c >> 4];
                piece[5] = hex[c & 15];
                bytes = 6;
            }
        } else {
            taken = character((const unsigned char *)text + i, length - i);
            bytes = taken == 0 ? 3 : taken;
            memcpy(piece, taken == 0 ? "\xEF\xBF\xBD" : text + i, bytes);
            if (taken == 3 && c == 0xED && (unsigned char)text[i + 1] >= 0xA0) {
                unsigned code = 0xD000u | (text[i + 1] & 0x3Fu) << 6 | (text[i + 2] & 0x3Fu);
                piece[0] = '\\';
                piece[1] = 'u';
                for (int j = 0; j < 4; j++) {
                    piece[2 + j] = hex[code >> (12 - 4 * j) & 15];
                }
                bytes = 6;
            }
            taken = taken == 0 ? 1 : taken;
        }
        if (out != NULL) {
            memcpy(out + size, piece, bytes);
        }
        size += bytes;
        i += taken;
    }
    return size;
}

th_json json_text(th_call *call, const char *data, size_t length) {
    size_t size = escape(data, length, NULL) + 2;
    char *quoted = arena_take(call->arena, size + 1, 1);
    quoted[0] = '"';
    escape(data, length, quoted + 1);
    quoted[size - 1] = '"';
    quoted[size] = 0;
    return (th_json){quoted, size};
}

/* ---- Numbers ---------------------------------------------------------------------------------------------------- */

size_t write_int(uint64_t value, bool is_negative, char out[24]) {
    char digits[20];
    size_t count = 0, length = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    if (is_negative) {
        out[length++] = '-';
    }
    while (count > 0) {
        out[length++] = digits[--count];
    }
    return length;
}

const char *digits(th_call *call, uint64_t value) {
    char text[24];
    return copy(call, text, write_int(value, false, text));
}

size_t write_double(double value, char out[32]) {
    if (value != value) {
        memcpy(out, "NaN", 3);
        return 3;
    }
    size_t length = 0;
    if (signbit(value)) {
        out[length++] = '-';
        value = -value;
    }
    if (value > 1.7976931348623157e308) {
        memcpy(out + length, "Infinity", 8);
        return length + 8;
    }
    if (value < 1e15 && value == (double)(uint64_t)value) {
        length += write_int((uint64_t)value, false, out + length);
        memcpy(out + length, ".0", 2);
        return length + 2;
    }
    char figures[20];
    int exponent, count = (int)shortest(value, figures, &exponent);
    exponent--;
    if (exponent < -4 || exponent >= 16) {
        out[length++] = figures[0];
        if (count > 1) {
            out[length++] = '.';
            memcpy(out + length, figures + 1, (size_t)count - 1);
            length += (size_t)count - 1;
        }
        out[length++] = 'e';
        out[length++] = exponent < 0 ? '-' : '+';
        unsigned size = (unsigned)(exponent < 0 ? -exponent : exponent);
        if (size < 10) {
            out[length++] = '0';
        }
        return length + write_int(size, false, out + length);
    }
    if (exponent < 0) {
        memcpy(out + length, "0.000", 5);
        length += (size_t)(1 - exponent);
        memcpy(out + length, figures, (size_t)count);
        return length + (size_t)count;
    }
    for (int i = 0; i < count || i <= exponent; i++) {
        if (i == exponent + 1) {
            out[length++] = '.';
        }
        out[length++] = i < count ? figures[i] : '0';
    }
    if (count <= exponent + 1) {
        memcpy(out + length, ".0", 2);
        length += 2;
    }
    return length;
}

/* ---- The writer ------------------------------------------------------------------------------------------------- */

static char *room_for(th_writer *writer, size_t length) {
    if (length > writer->room - writer->length) {
        size_t room = writer->room * 2 > 64 ? writer->room * 2 : 64;
        if (room - writer->length < length) {
            if (length > SIZE_MAX / 2 - writer->length) {
                panic("out of memory: %zu bytes", length);
            }
            room = writer->length + length;
        }
        char *text = arena_take(writer->call->arena, room, 1);
        if (writer->length > 0) {
            memcpy(text, writer->text, writer->length);
        }
        writer->text = text;
        writer->room = room;
    }
    return writer->text + writer->length;
}

static void append(th_writer *writer, const char *text, size_t length) {
    if (length > 0) {
        memcpy(room_for(writer, length), text, length);
        writer->length += length;
    }
}

static void append_escaped(th_writer *writer, const char *text, size_t length) {
    size_t size = escape(text, length, NULL);
    escape(text, length, room_for(writer, size));
    writer->length += size;
}

static void break_by(th_writer *writer, const char *why) {
    if (writer->broken == NULL) {
        writer->broken = why;
    }
}

static bool in_object(const th_writer *writer) {
    unsigned at = writer->depth - 1;
    return writer->depth > 0 && (writer->is_object[at / 8] >> at % 8 & 1);
}

/* Before every value: the comma, if it needs one. */
static void before(th_writer *writer) {
    if (in_object(writer)) {
        if (!writer->has_key) {
            break_by(writer, "a member of an object has no key");
        }
        writer->has_key = false;
        return;
    }
    if (writer->depth == 0 && writer->length > 0) {
        break_by(writer, "there are several values and no array around them");
    }
    if (!writer->is_first) {
        append(writer, ",", 1);
    }
    writer->is_first = false;
}

th_writer th_write(th_call *call) { return (th_writer){.call = call, .is_first = true}; }

static void begin(th_writer *writer, bool is_object) {
    before(writer);
    if (writer->depth == DEPTH_MAX) {
        break_by(writer, "it is nested deeper than 1000 levels");
        return;
    }
    unsigned at = writer->depth++;
    unsigned char bit = (unsigned char)(1u << at % 8), *byte = &writer->is_object[at / 8];
    *byte = is_object ? (unsigned char)(*byte | bit) : (unsigned char)(*byte & ~bit);
    append(writer, is_object ? "{" : "[", 1);
    writer->is_first = true;
}

void th_begin_array(th_writer *writer) { begin(writer, false); }
void th_begin_object(th_writer *writer) { begin(writer, true); }

void th_end(th_writer *writer) {
    if (writer->depth == 0) {
        break_by(writer, "more was ended than begun");
        return;
    }
    if (writer->has_key) {
        break_by(writer, "a key has no value");
        writer->has_key = false;
    }
    append(writer, in_object(writer) ? "}" : "]", 1);
    writer->depth--;
    writer->is_first = false;
}

void th_key_text(th_writer *writer, const char *text, size_t length) {
    if (!in_object(writer) || writer->has_key) {
        break_by(writer, writer->has_key ? "a key has no value" : "a key is outside of an object");
    }
    if (!writer->is_first) {
        append(writer, ",", 1);
    }
    append(writer, "\"", 1);
    append_escaped(writer, text, length);
    append(writer, "\":", 2);
    writer->is_first = false;
    writer->has_key = true;
}

void th_key(th_writer *writer, const char *name) { th_key_text(writer, name, strlen(name)); }

static void put(th_writer *writer, const char *text, size_t length) {
    before(writer);
    append(writer, text, length);
}

void th_put(th_writer *writer, th_json value) {
    if (value.text == NULL) {
        break_by(writer, "a part of it is no value");
        return;
    }
    put(writer, value.text, value.length);
}

void th_put_null(th_writer *writer) { put(writer, "null", 4); }
void th_put_bool(th_writer *writer, bool value) { put(writer, value ? "true" : "false", value ? 4 : 5); }

void th_put_int(th_writer *writer, int64_t value) {
    char text[24];
    put(writer, text, write_int(value < 0 ? 0 - (uint64_t)value : (uint64_t)value, value < 0, text));
}

void th_put_uint(th_writer *writer, uint64_t value) {
    char text[24];
    put(writer, text, write_int(value, false, text));
}

void th_put_double(th_writer *writer, double value) {
    char text[32];
    put(writer, text, write_double(value, text));
}

void th_put_text(th_writer *writer, const char *text, size_t length) {
    before(writer);
    append(writer, "\"", 1);
    append_escaped(writer, text, length);
    append(writer, "\"", 1);
}

void th_put_str(th_writer *writer, const char *text) {
    if (text == NULL) {
        th_put_null(writer);
    } else {
        th_put_text(writer, text, strlen(text));
    }
}

th_json th_written(th_writer *writer) {
    if (writer->depth > 0) {
        break_by(writer, "an array or object was not ended");
    } else if (writer->length == 0) {
        break_by(writer, "nothing was written");
    }
    if (writer->broken != NULL) {
        make_error(writer->call, "TypeError", TH_INVALID, join(writer->call, "not JSON: ", writer->broken, NULL));
        return NO_JSON;
    }
    return (th_json){writer->text, writer->length};
}

/* ---- By a format ------------------------------------------------------------------------------------------------ */

/* An integer of the length that the format says. */
static int64_t signed_by(va_list *list, char length) {
    switch (length) {
    case 'l':
        return va_arg(*list, long);
    case 'L':
    case 'j':
        return va_arg(*list, long long);
    case 'z':
    case 't':
        return va_arg(*list, ptrdiff_t);
    default:
        return va_arg(*list, int);
    }
}

static uint64_t unsigned_by(va_list *list, char length) {
    switch (length) {
    case 'l':
        return va_arg(*list, unsigned long);
    case 'L':
    case 'j':
        return va_arg(*list, unsigned long long);
    case 'z':
    case 't':
        return va_arg(*list, size_t);
    default:
        return va_arg(*list, unsigned);
    }
}

/* What follows a percent sign; gives what is behind it. `quote` is the one that we are between, or 0. */
static const char *convert(th_writer *writer, const char *format, const char *at, char quote, va_list *list) {
    char number[32], length = 0;
    int bytes = -1;
    if (at[0] == '.' && at[1] == '*') {
        bytes = va_arg(*list, int);
        at += 2;
    }
    for (; *at != 0 && strchr("hljzt", *at) != NULL; at++) {
        length = *at == 'l' && length == 'l' ? 'L' : *at;
    }
    switch (*at) {
    case '%':
        append(writer, "%", 1);
        break;
    case 'd':
    case 'i': {
        int64_t value = signed_by(list, length);
        append(writer, number, write_int(value < 0 ? 0 - (uint64_t)value : (uint64_t)value, value < 0, number));
        break;
    }
    case 'u':
        append(writer, number, write_int(unsigned_by(list, length), false, number));
        break;
    case 'f':
    case 'e':
    case 'g':
        append(writer, number, write_double(va_arg(*list, double), number));
        break;
    case 's': {
        const char *text = va_arg(*list, const char *);
        const char *end = text == NULL || bytes < 0 ? NULL : memchr(text, 0, (size_t)bytes);
        size_t size = text == NULL ? 0 : end != NULL ? (size_t)(end - text) : bytes >= 0 ? (size_t)bytes : strlen(text);
        if (quote != 0) {
            append_escaped(writer, text, size);
        } else if (text == NULL) {
            append(writer, "null", 4);
        } else {
            append(writer, "\"", 1);
            append_escaped(writer, text, size);
            append(writer, "\"", 1);
        }
        break;
    }
    case 'p': {
        const th_json *json = va_arg(*list, const th_json *);
        if (quote != 0) {
            panic("a JSON value is within quotes in the format %s", format);
        }
        if (json == NULL || json->text == NULL) {
            break_by(writer, "a part of it is no value");
        } else {
            append(writer, json->text, json->length);
        }
        break;
    }
    default:
        panic("a conversion is none of d i u f e g s .*s p in the format %s", format);
    }
    return at + 1;
}

th_json jsonf_list(th_call *call, const char *format, va_list given) {
    th_writer writer = th_write(call);
    va_list list;
    va_copy(list, given);
    char quote = 0;
    for (const char *at = format; *at != 0;) {
        char c = *at++;
        if (c == '%') {
            at = convert(&writer, format, at, quote, &list);
        } else if (quote == 0 && (c == '\'' || c == '"')) {
            quote = c;
            append(&writer, "\"", 1);
        } else if (c == quote) {
            quote = 0;
            append(&writer, "\"", 1);
        } else if (c == '"') { /* within single quotes */
            append(&writer, "\\\"", 2);
        } else if (c == '\\' && *at == '\'') {
            append(&writer, at++, 1);
        } else if (c == '\\' && *at != 0) {
            append(&writer, at++ - 1, 2);
        } else {
            append(&writer, &c, 1);
        }
    }
    va_end(list);
    return th_written(&writer);
}

th_json th_jsonf(th_call *call, const char *format, ...) {
    va_list list;
    va_start(list, format);
    th_json json = jsonf_list(call, format, list);
    va_end(list);
    return json;
}
