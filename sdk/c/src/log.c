/* Lines of the task's log, and the last one of a plugin that is wrong. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

#define LINE_MAX_LENGTH 4096

/* The host takes UTF-8 alone, and there may be no memory to mend it in. */
static void blank(char *line) {
    for (; *line != 0; line++) {
        if ((unsigned char)*line >= 0x80) {
            *line = '?';
        }
    }
}

/* A printf that knows %s, %d and %zu alone: every plugin has it, and the whole one is large. */
static void write_plain(char *line, size_t room, const char *format, va_list list) {
    size_t length = 0;
    for (; *format != 0 && length + 1 < room; format++) {
        if (*format != '%') {
            line[length++] = *format;
            continue;
        }
        char digits[24];
        const char *text = digits;
        size_t size;
        format += 1 + (format[1] == 'z');
        if (*format == 's') {
            text = va_arg(list, const char *);
            size = strlen(text);
        } else {
            size = write_int(*format == 'd' ? (uint64_t)va_arg(list, int) : (uint64_t)va_arg(list, size_t), false, digits);
        }
        size = size < room - length - 1 ? size : room - length - 1;
        memcpy(line + length, text, size);
        length += size;
    }
    line[length] = 0;
}

void panic(const char *format, ...) {
    char line[512];
    va_list list;
    va_start(list, format);
    write_plain(line, sizeof line, format, list);
    va_end(list);
    blank(line);
    host_die(text_of(line));
}

void th_log(th_level level, const char *format, ...) {
    char line[LINE_MAX_LENGTH];
    va_list list;
    va_start(list, format);
    int length = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    if (length < 0) {
        return;
    }
    arena scratch = {0};
    th_call call = {.arena = &scratch};
    text whole = {line, (size_t)length};
    if ((size_t)length >= sizeof line) {
        char *longer = arena_take(&scratch, (size_t)length + 1, 1);
        va_start(list, format);
        vsnprintf(longer, (size_t)length + 1, format, list);
        va_end(list);
        whole.data = longer;
    }
    host_log(level, valid_utf8(&call, whole));
    arena_free(&scratch);
}
