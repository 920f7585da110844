/* Memory that lives as long as a call, and the texts in it. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Most calls need less than what an instance has from the beginning. */
#define CHUNK_SIZE 16384u

void *arena_take(arena *arena, size_t size, size_t align) {
    uintptr_t at = ((uintptr_t)arena->at + (align - 1)) & ~(uintptr_t)(align - 1);
    if (arena->at != NULL && at <= (uintptr_t)arena->end && size <= (uintptr_t)arena->end - at) {
        arena->at = (char *)at + size;
        return (void *)at;
    }
    size_t header = (sizeof(chunk) + 15) & ~(size_t)15;
    if (size > SIZE_MAX / 2) {
        panic("out of memory: %zu bytes", size);
    }
    size_t length = header + size > CHUNK_SIZE ? header + size : CHUNK_SIZE;
    chunk *chunk = malloc(length);
    if (chunk == NULL) {
        panic("out of memory: %zu bytes", size);
    }
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    char *start = (char *)chunk + header; /* malloc aligns to 16, and nobody wants more */
    /* A large piece has a chunk to itself, and what is left of the one before stays in use. */
    if (length == CHUNK_SIZE) {
        arena->at = start + size;
        arena->end = (char *)chunk + length;
    }
    return start;
}

void arena_free(arena *arena) {
    while (arena->chunks != NULL) {
        chunk *next = arena->chunks->next;
        free(arena->chunks);
        arena->chunks = next;
    }
    arena->at = arena->end = NULL;
}

void *th_alloc(th_call *call, size_t size) { return arena_take(call->arena, size, 16); }

text text_of(const char *string) { return (text){string, string == NULL ? 0 : strlen(string)}; }

char *copy(th_call *call, const char *data, size_t length) {
    if (length > SIZE_MAX / 2) {
        panic("out of memory: %zu bytes", length);
    }
    char *copied = arena_take(call->arena, length + 1, 1);
    if (length > 0) {
        memcpy(copied, data, length);
    }
    copied[length] = 0;
    return copied;
}

char *join(th_call *call, const char *first, ...) {
    size_t length = 0;
    va_list list;
    va_start(list, first);
    for (const char *part = first; part != NULL; part = va_arg(list, const char *)) {
        length += strlen(part);
    }
    va_end(list);
    char *joined = arena_take(call->arena, length + 1, 1), *at = joined;
    va_start(list, first);
    for (const char *part = first; part != NULL; part = va_arg(list, const char *)) {
        size_t size = strlen(part);
        memcpy(at, part, size);
        at += size;
    }
    va_end(list);
    *at = 0;
    return joined;
}

char *format_list(th_call *call, const char *format, va_list list) {
    char small[256];
    va_list again;
    va_copy(again, list);
    int length = vsnprintf(small, sizeof small, format, list);
    if (length < 0) {
        panic("a text cannot be formatted: %s", format);
    }
    char *formatted = arena_take(call->arena, (size_t)length + 1, 1);
    if ((size_t)length < sizeof small) {
        memcpy(formatted, small, (size_t)length + 1);
    } else {
        vsnprintf(formatted, (size_t)length + 1, format, again);
    }
    va_end(again);
    return formatted;
}

char *th_format(th_call *call, const char *format, ...) {
    va_list list;
    va_start(list, format);
    char *formatted = format_list(call, format, list);
    va_end(list);
    return formatted;
}

/* How many bytes the character has that begins here; 0 if it is none. Surrogates are none. */
static size_t character(const unsigned char *at, size_t left) {
    if (at[0] < 0x80) {
        return 1;
    }
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
    bool is_none = (at[0] == 0xED && at[1] >= 0xA0) || (at[0] == 0xF4 && at[1] >= 0x90);
    return is_short || is_none ? 0 : length;
}

text valid_utf8(th_call *call, text given) {
    const unsigned char *data = (const unsigned char *)given.data;
    size_t wrong = 0;
    for (size_t i = 0; i < given.length;) {
        size_t length = character(data + i, given.length - i);
        wrong += length == 0;
        i += length == 0 ? 1 : length;
    }
    if (wrong == 0) {
        return given;
    }
    char *mended = arena_take(call->arena, given.length + 2 * wrong + 1, 1), *at = mended;
    for (size_t i = 0; i < given.length;) {
        size_t length = character(data + i, given.length - i);
        if (length == 0) {
            memcpy(at, "\xEF\xBF\xBD", 3);
            at += 3;
            i++;
        } else {
            memcpy(at, data + i, length);
            at += length;
            i += length;
        }
    }
    *at = 0;
    return (text){mended, (size_t)(at - mended)};
}

text valid(th_call *call, const char *string) { return valid_utf8(call, text_of(string == NULL ? "" : string)); }
