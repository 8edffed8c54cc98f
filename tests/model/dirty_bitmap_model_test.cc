/* SPDX-License-Identifier: MIT */
/*
 * Every function of the dirty bitmap against an array of bools, for all alignments and lengths that a word or two can tell apart,
 * and at random over more.
 */
#include <gtest/gtest.h>

#include "shim/dirty_shim.h"

#include <random>
#include <vector>

namespace {

using Bools = std::vector<bool>;

class Map {
public:
    explicit Map(size_t n) : shim(dirty_shim_new(n)), model(n, false) {}
    ~Map() { dirty_shim_free(shim); }
    Map(const Map &) = delete;
    Map &operator=(const Map &) = delete;

    void Set(size_t first, size_t last)
    {
        dirty_shim_set(shim, first, last);
        for (size_t i = first; i <= last; i++) {
            model[i] = true;
        }
    }
    void Randomise(std::mt19937 &random, unsigned one_in)
    {
        for (size_t i = 0; i < model.size(); i++) {
            if (random() % one_in == 0) {
                Set(i, i);
            }
        }
    }
    void ExpectEqual() const
    {
        for (size_t i = 0; i < model.size(); i++) {
            ASSERT_EQ(model[i], dirty_shim_test(shim, i)) << "bit " << i << " of " << model.size();
        }
        ASSERT_TRUE(dirty_shim_word_beyond_is_clean(shim, model.size()));
    }
    bool Any(size_t first, size_t last) const
    {
        for (size_t i = first; i <= last; i++) {
            if (model[i]) {
                return true;
            }
        }
        return false;
    }
    /* What read or take gave, against the model. */
    void ExpectCopy(size_t first, size_t last, const std::vector<uint64_t> &out, bool any) const
    {
        ASSERT_EQ(any, Any(first, last));
        for (size_t i = 0; i < out.size() * 64; i++) {
            size_t bit = first / 64 * 64 + i;
            bool want = bit >= first && bit <= last && model[bit];
            ASSERT_EQ(want, out[i / 64] >> (i % 64) & 1) << "[" << first << ", " << last << "] bit " << bit;
        }
    }

    ShimBitmap *shim;
    Bools model;
};

size_t words(size_t first, size_t last)
{
    return last / 64 - first / 64 + 1;
}

void check_range(size_t n, size_t first, size_t last, std::mt19937 &random)
{
    Map map(n);

    map.Randomise(random, 1 + random() % 130);
    map.ExpectEqual();
    ASSERT_EQ(map.Any(first, last), dirty_shim_any(map.shim, first, last));

    std::vector<uint64_t> out(words(first, last));
    bool any = dirty_shim_read(map.shim, first, last, out.data());
    map.ExpectCopy(first, last, out, any);
    map.ExpectEqual();

    std::vector<uint64_t> taken(words(first, last));
    any = dirty_shim_take(map.shim, first, last, taken.data());
    map.ExpectCopy(first, last, taken, any);
    Bools before = map.model;
    for (size_t i = first; i <= last; i++) {
        map.model[i] = false;
    }
    map.ExpectEqual();
    dirty_shim_put(map.shim, first, last, taken.data());
    map.model = before;
    map.ExpectEqual();

    any = map.Any(first, last);
    ASSERT_EQ(any, dirty_shim_clear(map.shim, first, last));
    for (size_t i = first; i <= last; i++) {
        map.model[i] = false;
    }
    map.ExpectEqual();
    map.Set(first, last);
    map.ExpectEqual();
}

TEST(DirtyBitmapModel, RangesOfEveryAlignmentAndLength)
{
    std::mt19937 random(1);

    for (size_t first = 0; first < 66; first++) {
        for (size_t len : {1, 2, 63, 64, 65, 127, 128, 129, 130}) {
            check_range(first + len, first, first + len - 1, random);
            check_range(first + len + 70, first, first + len - 1, random);
        }
    }
}

TEST(DirtyBitmapModel, RangesAtRandomOverManyWords)
{
    std::mt19937 random(2);

    for (int i = 0; i < 200; i++) {
        size_t n = 1 + random() % 3000, first = random() % n;

        check_range(n, first, first + random() % (n - first), random);
    }
}

void check_merge(size_t n, size_t first, size_t from, size_t len, unsigned one_in, std::mt19937 &random)
{
    Map map(n);
    std::vector<uint64_t> foreign((from + len + 63) / 64); /* not a word more: the address sanitizer watches */

    map.Randomise(random, 50);
    for (size_t i = 0; i < foreign.size() * 64; i++) {
        if (random() % one_in == 0) {
            foreign[i / 64] |= UINT64_C(1) << (i % 64);
        }
    }
    dirty_shim_merge(map.shim, first, foreign.data(), from, len);
    for (size_t i = 0; i < len; i++) {
        if (foreign[(from + i) / 64] >> ((from + i) % 64) & 1) {
            map.model[first + i] = true;
        }
    }
    map.ExpectEqual();
}

TEST(DirtyBitmapModel, MergesOfEveryAlignmentOfBothSides)
{
    std::mt19937 random(3);

    for (size_t first = 0; first < 65; first++) {
        for (size_t from = 0; from < 65; from++) {
            size_t len = random() % 200;

            check_merge(first + len + 1 + random() % 70, first, from, len, 1 + random() % 3, random);
        }
    }
}

TEST(DirtyBitmapModel, MergesOfEveryLength)
{
    std::mt19937 random(4);

    for (size_t len = 0; len < 260; len++) {
        for (int i = 0; i < 4; i++) {
            check_merge(len + 80, random() % 80, random() % 80, len, 2, random);
        }
    }
}

TEST(DirtyBitmapModel, RunsAreMaximalAndInOrder)
{
    std::mt19937 random(5);

    for (int round = 0; round < 300; round++) {
        size_t n = 1 + random() % 400;
        unsigned one_in = 1 + random() % 4;
        std::vector<uint64_t> w((n + 63) / 64);
        Bools model(n), seen(n);
        uint64_t first, last, bit = 0;

        for (size_t i = 0; i < n; i++) {
            if (random() % one_in == 0) {
                w[i / 64] |= UINT64_C(1) << (i % 64);
                model[i] = true;
            }
        }
        while (dirty_shim_run(w.data(), bit, n, &first, &last)) {
            ASSERT_GE(first, bit);
            ASSERT_TRUE(last + 1 == n || !model[last + 1]);
            for (uint64_t i = first; i <= last; i++) {
                seen[i] = true;
            }
            bit = last + 1;
        }
        ASSERT_EQ(model, seen);
    }
}

} // namespace
