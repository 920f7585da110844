/* Reads what `.params` of a task says: Python's way to write parameters. */
#include "internal.h"

#include <string.h>

#define BIT(kind) (1u << (kind))
#define ANY (BIT(TH_NULL) | BIT(TH_BOOL) | BIT(TH_INT) | BIT(TH_FLOAT) | BIT(TH_STRING) | BIT(TH_ARRAY) | BIT(TH_OBJECT))

static const struct {
    const char *name;
    unsigned types;
} TYPES[] = {
    {"int", BIT(TH_INT)},     {"float", BIT(TH_INT) | BIT(TH_FLOAT)}, {"str", BIT(TH_STRING)}, {"bool", BIT(TH_BOOL)},
    {"list", BIT(TH_ARRAY)}, {"dict", BIT(TH_OBJECT)},               {"None", BIT(TH_NULL)},  {"any", ANY},
};

/* Where one reads, and for whom. */
typedef struct reader {
    th_call *call;
    const th_entry *entry;
    const char *at;
} reader;

static _Noreturn void wrong(const reader *reader, const char *what) {
    const th_entry *entry = reader->entry;
    panic("%s:%d: task `%s`: .params = \"%s\": %s before \"%s\"", entry->file, entry->line, entry->task->name,
          entry->task->params, what, reader->at);
}

static void space(reader *reader) {
    while (*reader->at == ' ' || *reader->at == '\n' || *reader->at == '\t') {
        reader->at++;
    }
}

static bool accept(reader *reader, char c) {
    space(reader);
    bool found = *reader->at == c;
    reader->at += found;
    return found;
}

static size_t word(reader *reader) {
    space(reader);
    size_t length = 0;
    for (const char *at = reader->at; *at == '_' || (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
                                      (unsigned char)*at >= 0x80 || (length > 0 && *at >= '0' && *at <= '9');
         at++) {
        length++;
    }
    return length;
}

static bool is(const char *text, size_t length, const char *word) {
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

static unsigned types(reader *reader, bool *is_str) {
    unsigned found = 0;
    *is_str = false;
    do {
        size_t length = word(reader);
        unsigned one = 0;
        for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++) {
            if (is(reader->at, length, TYPES[i].name)) {
                one = TYPES[i].types;
            }
        }
        if (one == 0) {
            wrong(reader, "there is no type int, float, str, bool, list, dict, None or any");
        }
        *is_str |= one == BIT(TH_STRING);
        found |= one;
        reader->at += length;
    } while (accept(reader, '|'));
    return found;
}

/* A default: JSON, Python's names of its constants, or text in single quotes. */
static th_json default_value(reader *reader) {
    static const char *const constants[][2] = {{"None", "null"}, {"True", "true"}, {"False", "false"}};
    space(reader);
    const char *start = reader->at;
    if (*start == '\'') {
        const char *end = strchr(start + 1, '\'');
        if (end == NULL) {
            wrong(reader, "a text does not end");
        }
        reader->at = end + 1;
        return json_text(reader->call, start + 1, (size_t)(end - start) - 1);
    }
    size_t depth = 0;
    bool in_text = false;
    for (; *reader->at != 0 && (in_text || depth > 0 || (*reader->at != ',' && *reader->at != ' ')); reader->at++) {
        char c = *reader->at;
        if (in_text && c == '\\' && reader->at[1] != 0) {
            reader->at++;
        } else if (c == '"') {
            in_text = !in_text;
        } else if (!in_text) {
            depth += c == '[' || c == '{';
            depth -= (c == ']' || c == '}') && depth > 0;
        }
    }
    th_json json = {start, (size_t)(reader->at - start)};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        if (is(json.text, json.length, constants[i][0])) {
            return json_of(constants[i][1]);
        }
    }
    if (th_json_kind(json) == TH_MISSING) {
        reader->at = start;
        wrong(reader, "there is no default value");
    }
    return json;
}

params read_params(th_call *call, const th_entry *entry) {
    reader reader = {call, entry, entry->task->params == NULL ? "" : entry->task->params};
    size_t most = 1;
    for (const char *at = reader.at; *at != 0; at++) {
        most += *at == ',';
    }
    params params = {.list = NULL};
    bool is_behind_rest = false, has_default = false;
    space(&reader);
    if (*reader.at == 0) {
        return params;
    }
    params.list = arena_take(call->arena, most * sizeof(param), sizeof(void *));
    do {
        if (params.takes_keywords) {
            wrong(&reader, "something follows **");
        }
        if (accept(&reader, '*')) {
            bool is_double = accept(&reader, '*');
            size_t length = word(&reader);
            if ((length == 0 && is_double) || (!is_double && is_behind_rest)) {
                wrong(&reader, is_double ? "** has no name" : "there is a second *");
            }
            reader.at += length;
            params.takes_keywords |= is_double;
            params.takes_rest |= !is_double && length > 0;
            is_behind_rest = true;
            continue;
        }
        size_t length = word(&reader);
        if (length == 0) {
            wrong(&reader, "there is no name");
        }
        for (size_t i = 0; i < params.count; i++) {
            if (params.list[i].name_length == length && memcmp(params.list[i].name, reader.at, length) == 0) {
                wrong(&reader, "the name is there twice,");
            }
        }
        param *param = &params.list[params.count++];
        *param = (struct param){.name = reader.at, .name_length = length, .types = ANY, .required = true};
        param->by_name_only = is_behind_rest;
        reader.at += length;
        if (accept(&reader, ':')) {
            param->types = types(&reader, &param->is_str);
        }
        if (accept(&reader, '=')) {
            const char *before = reader.at;
            param->missing = default_value(&reader);
            param->required = false;
            if ((BIT(th_json_kind(param->missing)) & param->types) == 0) {
                reader.at = before;
                wrong(&reader, "the default value is not of the type");
            }
        } else if (has_default && !is_behind_rest) {
            wrong(&reader, "a parameter without a default follows one with");
        }
        has_default |= !param->required;
        params.positional += !is_behind_rest;
    } while (accept(&reader, ','));
    if (*reader.at != 0) {
        wrong(&reader, "there is no comma");
    }
    return params;
}
