/* Floats, beside those of the C library. */
#include "check.h"
#include "internal.h"

#include <math.h>

static uint64_t random_bits(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* What differs is worth to be seen. */
static void equal(double found, double expected, const char *text) {
    if (memcmp(&found, &expected, sizeof found) != 0) {
        fprintf(stderr, "%.60s: found %a, expected %a\n", text, found, expected);
        exit(1);
    }
}

static void digits_are_the_shortest_that_are_read_the_same(double value) {
    char text[40], library[40], figures[20];
    size_t length = write_double(value, text);
    text[length] = 0;
    equal(strtod(text, NULL), value, text);
    equal(read_double(text, length), value, text);
    if (value == 0) {
        return;
    }
    int precision = 0, power;
    do {
        snprintf(library, sizeof library, "%.*e", precision++, value);
    } while (strtod(library, NULL) != value);
    size_t count = shortest(fabs(value), figures, &power), at = 0;
    TRUE(count <= (size_t)precision);
    /* As many digits as the library needs are also the ones that are next to the number. */
    for (const char *digit = library; *digit != 'e' && count == (size_t)precision; digit++) {
        if (*digit >= '0' && *digit <= '9') {
            TRUE(figures[at++] == *digit);
        }
    }
}

static void digits_are_read_as_the_nearest_float(double value) {
    static char text[2048];
    snprintf(text, sizeof text, "%.17e", value);
    equal(read_double(text, strlen(text)), value, text);
    snprintf(text, sizeof text, "%.900e", value);
    equal(read_double(text, strlen(text)), value, text);
    snprintf(text, sizeof text, "%llu.%llue%d", (unsigned long long)random_bits(), (unsigned long long)random_bits(),
             (int)(random_bits() % 700) - 350);
    equal(read_double(text, strlen(text)), strtod(text, NULL), text);
    /* In the middle between two, where the last digit decides. */
    if (fabs(value) > 1e-300 && fabs(value) < 1e300) {
        snprintf(text, sizeof text, "%.1200Le", ((long double)value + (long double)nextafter(value, INFINITY)) / 2);
        equal(read_double(text, strlen(text)), strtod(text, NULL), text);
    }
}

int main(int count, char **arguments) {
    long rounds = count > 1 ? atol(arguments[1]) : 3000;
    for (long i = 0; i < rounds; i++) {
        uint64_t bits = random_bits();
        bits = i % 4 == 1 ? bits & 0xFFF0000000000000u : bits; /* powers of two */
        bits = i % 4 == 2 ? (bits & 0x800FFFFFFFFFFFFFu) | (1000 + random_bits() % 60) << 52 : bits; /* of a common size */
        bits = i % 64 == 3 ? bits & 0x000FFFFFFFFFFFFFu : bits; /* below the normal ones */
        double value;
        memcpy(&value, &bits, sizeof value);
        if (isfinite(value)) {
            digits_are_the_shortest_that_are_read_the_same(value);
            digits_are_read_as_the_nearest_float(value);
        }
    }
    puts("numbers: ok");
    return 0;
}
