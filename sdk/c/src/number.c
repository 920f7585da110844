/*
 * Floats from their digits and back, exactly. The C library could do it, in numbers of 128 bits that are half as much code again
 * as everything else here; what is common is quick, and what is rare is worked out in whole numbers of any size.
 */
#include "internal.h"

#include <string.h>

/* Enough for 800 digits times the smallest float's power of ten. */
#define WORDS 144

/* A whole number, least word first. */
typedef struct big {
    uint32_t count;
    uint32_t words[WORDS];
} big;

static void set(big *big, uint64_t value) {
    big->count = 0;
    for (; value != 0; value >>= 32) {
        big->words[big->count++] = (uint32_t)value;
    }
}

/* Times a small number, and plus one. */
static void multiply(big *big, uint32_t by, uint32_t plus) {
    uint64_t carry = plus;
    for (uint32_t i = 0; i < big->count; i++) {
        carry += (uint64_t)big->words[i] * by;
        big->words[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry != 0 && big->count < WORDS) {
        big->words[big->count++] = (uint32_t)carry;
    }
}

static void multiply_by_ten_to(big *big, unsigned power) {
    for (; power >= 9; power -= 9) {
        multiply(big, 1000000000u, 0);
    }
    for (; power > 0; power--) {
        multiply(big, 10, 0);
    }
}

static void shift_left(big *big, unsigned bits) {
    unsigned words = bits / 32;
    bits %= 32;
    if (bits > 0) {
        multiply(big, UINT32_C(1) << bits, 0);
    }
    if (words > 0 && big->count > 0 && big->count + words <= WORDS) {
        memmove(big->words + words, big->words, big->count * sizeof *big->words);
        memset(big->words, 0, words * sizeof *big->words);
        big->count += words;
    }
}

static unsigned bit_length(const big *big) {
    return big->count == 0 ? 0 : big->count * 32 - (unsigned)__builtin_clz(big->words[big->count - 1]);
}

static int compare(const big *a, const big *b) {
    if (a->count != b->count) {
        return a->count < b->count ? -1 : 1;
    }
    for (uint32_t i = a->count; i-- > 0;) {
        if (a->words[i] != b->words[i]) {
            return a->words[i] < b->words[i] ? -1 : 1;
        }
    }
    return 0;
}

/* a - b, which is not negative. */
static void subtract(big *a, const big *b) {
    int64_t borrow = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        borrow += (int64_t)a->words[i] - (i < b->count ? b->words[i] : 0);
        a->words[i] = (uint32_t)borrow;
        borrow >>= 32;
    }
    while (a->count > 0 && a->words[a->count - 1] == 0) {
        a->count--;
    }
}

/* Compares a + b with c. */
static int compare_sum(const big *a, const big *b, const big *c) {
    big sum = *a;
    uint64_t carry = 0;
    for (uint32_t i = 0; i < WORDS && (i < sum.count || i < b->count || carry != 0); i++) {
        carry += (uint64_t)(i < sum.count ? sum.words[i] : 0) + (i < b->count ? b->words[i] : 0);
        sum.words[i] = (uint32_t)carry;
        sum.count = i + 1 > sum.count ? i + 1 : sum.count;
        carry >>= 32;
    }
    return compare(&sum, c);
}

static double from_bits(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- Reading ---------------------------------------------------------------------------------------------------- */

#define DIGITS_MAX 800

/* The float that is next to `digits * 10 ** exponent`; the digits have no zeros around them. */
static double nearest(const char *digits, size_t count, int exponent, bool is_inexact) {
    big top, bottom;
    set(&top, 0);
    for (size_t i = 0; i < count; i++) {
        if (top.count == 0) {
            set(&top, (uint64_t)(digits[i] - '0'));
        } else {
            multiply(&top, 10, (uint32_t)(digits[i] - '0'));
        }
    }
    set(&bottom, 1);
    if (exponent >= 0) {
        multiply_by_ten_to(&top, (unsigned)exponent);
    } else {
        multiply_by_ten_to(&bottom, (unsigned)-exponent);
    }
    /* So that the quotient has 64 bits: its exponent is `binary` then. */
    int binary = (int)bit_length(&top) - (int)bit_length(&bottom) - 64;
    if (binary < 0) {
        shift_left(&top, (unsigned)-binary);
    } else {
        shift_left(&bottom, (unsigned)binary);
    }
    /* Either of the two lengths is possible; the shorter has its first bit one below. */
    uint64_t quotient = 0;
    big divisor = bottom;
    shift_left(&divisor, 63);
    if (compare_sum(&divisor, &divisor, &top) <= 0) { /* 65 bits: half of it, and what is lost is nothing but a half */
        shift_left(&bottom, 1);
        divisor = bottom;
        shift_left(&divisor, 63);
        binary++;
    }
    for (int bit = 63; bit >= 0; bit--) {
        quotient <<= 1;
        if (compare(&top, &divisor) >= 0) {
            subtract(&top, &divisor);
            quotient |= 1;
        }
        /* The divisor goes down by one bit: it was shifted up, so nothing is lost. */
        uint32_t carry = 0;
        for (uint32_t i = divisor.count; i-- > 0;) {
            uint32_t word = divisor.words[i];
            divisor.words[i] = word >> 1 | carry << 31;
            carry = word & 1;
        }
        while (divisor.count > 0 && divisor.words[divisor.count - 1] == 0) {
            divisor.count--;
        }
    }
    bool has_rest = top.count > 0 || is_inexact;
    while (quotient >> 63 == 0) { /* one bit short */
        quotient <<= 1;
        binary--;
    }
    /* quotient * 2 ** binary, with 64 bits: 53 of them stay, fewer below the normal numbers. */
    int power = binary + 63, dropped = 11;
    if (power > 1023) {
        return from_bits(UINT64_C(0x7FF) << 52);
    }
    if (power < -1022) {
        dropped += -1022 - power;
    }
    if (dropped > 64) {
        return 0;
    }
    uint64_t kept = dropped == 64 ? 0 : quotient >> dropped;
    uint64_t half = UINT64_C(1) << (dropped - 1), lost = dropped == 64 ? quotient : quotient & ((half << 1) - 1);
    if (lost > half || (lost == half && (has_rest || (kept & 1) != 0))) {
        kept++;
    }
    /* A carry goes on into the exponent, as it should. */
    return power < -1022 ? from_bits(kept) : from_bits(((uint64_t)(power + 1022) << 52) + kept);
}

double read_double(const char *text, size_t length) {
    static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    char figures[DIGITS_MAX];
    size_t count = 0, i = 0;
    int64_t exponent = 0;
    uint64_t whole = 0;
    bool is_negative = length > 0 && text[0] == '-', is_fraction = false, is_inexact = false;
    for (i = is_negative; i < length && text[i] != 'e' && text[i] != 'E'; i++) {
        if (text[i] == '.') {
            is_fraction = true;
            continue;
        }
        exponent -= is_fraction;
        if (count == 0 && text[i] == '0') {
            continue;
        }
        if (count < DIGITS_MAX) {
            whole = count < 19 ? whole * 10 + (uint64_t)(text[i] - '0') : whole;
            figures[count++] = text[i];
        } else {
            is_inexact |= text[i] != '0';
            exponent++;
        }
    }
    if (i < length) {
        i++;
        bool is_small = i < length && text[i] == '-';
        int64_t given = 0;
        for (i += i < length && (text[i] == '-' || text[i] == '+'); i < length; i++) {
            given = given < 100000000 ? given * 10 + (text[i] - '0') : given;
        }
        exponent += is_small ? -given : given;
    }
    double value;
    int64_t point = exponent + (int64_t)count; /* the value is below ten to this */
    if (count == 0 || point < -330) {
        value = 0;
    } else if (point > 310) {
        value = from_bits(UINT64_C(0x7FF) << 52);
    } else if (count < 19 && whole <= UINT64_C(1) << 53 && exponent >= -22 && exponent <= 22) {
        /* Both are exact, so the one operation rounds once. */
        value = exponent < 0 ? (double)whole / tens[-exponent] : (double)whole * tens[exponent];
    } else {
        while (count > 1 && figures[count - 1] == '0' && !is_inexact) {
            count--;
            exponent++;
        }
        value = nearest(figures, count, (int)exponent, is_inexact);
    }
    return is_negative ? -value : value;
}

/* ---- Writing ---------------------------------------------------------------------------------------------------- */

/*
 * The shortest digits that are read as this float and no other, by Steele and White's method; it is above zero. They are behind a
 * point, to be multiplied by ten to the power that is given.
 */
size_t shortest(double value, char out[20], int *power) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint64_t fraction = bits & ((UINT64_C(1) << 52) - 1);
    int exponent = (int)(bits >> 52);
    bool is_edge = fraction == 0 && exponent > 1; /* the float below is only half as far away */
    fraction |= exponent > 0 ? UINT64_C(1) << 52 : 0;
    exponent = (exponent > 0 ? exponent : 1) - 1075;
    bool is_even = (fraction & 1) == 0;

    /* The value is rest / unit; the neighbours are half of above / unit and below / unit away. */
    big rest, unit, above, below;
    set(&rest, fraction);
    set(&unit, 1);
    set(&below, 1);
    shift_left(&rest, (unsigned)(exponent > 0 ? exponent : 0) + 1 + is_edge);
    shift_left(&unit, (unsigned)(exponent < 0 ? -exponent : 0) + 1 + is_edge);
    shift_left(&below, (unsigned)(exponent > 0 ? exponent : 0));
    above = below;
    shift_left(&above, is_edge);

    /* An estimate of the power of ten, which is right or one too small. */
    int length = 64 - __builtin_clzll(fraction) + exponent - 1;
    int ten = (int)(length * 0.30102999566398120 + (length < 0 ? -1e-9 : 1 - 1e-9));
    if (ten > 0) {
        multiply_by_ten_to(&unit, (unsigned)ten);
    } else {
        multiply_by_ten_to(&rest, (unsigned)-ten);
        multiply_by_ten_to(&above, (unsigned)-ten);
        multiply_by_ten_to(&below, (unsigned)-ten);
    }
    int sum = compare_sum(&rest, &above, &unit);
    if (sum > 0 || (sum == 0 && is_even)) {
        ten++;
    } else {
        multiply(&rest, 10, 0);
        multiply(&above, 10, 0);
        multiply(&below, 10, 0);
    }
    *power = ten;

    for (size_t count = 0;;) {
        char digit = '0';
        while (compare(&rest, &unit) >= 0) {
            subtract(&rest, &unit);
            digit++;
        }
        int low = compare(&rest, &below), high = compare_sum(&rest, &above, &unit);
        bool is_low = low < 0 || (low == 0 && is_even), is_high = high > 0 || (high == 0 && is_even);
        if (!is_low && !is_high && count < 18) {
            out[count++] = digit;
            multiply(&rest, 10, 0);
            multiply(&above, 10, 0);
            multiply(&below, 10, 0);
            continue;
        }
        int half = compare_sum(&rest, &rest, &unit);
        bool rounds_up = is_low && is_high ? half > 0 || (half == 0 && (digit & 1) != 0) : is_high;
        out[count++] = (char)(digit + rounds_up);
        return count;
    }
}
