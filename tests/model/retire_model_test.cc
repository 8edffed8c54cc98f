/* SPDX-License-Identifier: MIT */
/*
 * Random histories of three lines against the definition: an object retired in generation d, born in b, is alive
 * exactly while a version of its line with a generation in [b, d) is pinned. One of no line is alive while such a
 * version of any line that was retired by then is pinned, and gone when no version with such a generation is.
 */
#include <gtest/gtest.h>

#include "shim/retire_shim.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace {

constexpr int Lines = 3;

void Set(void *arg)
{
    *static_cast<std::atomic<bool> *>(arg) = true;
}

struct Version {
    ShimVersion *shim;
    int line;
    uint64_t gen;
    uint64_t death = 0; /* 0: current */
    int pins = 0;
    std::atomic<bool> freed{false};
};

struct Object {
    int line; /* -1: of none */
    uint64_t birth, death;
    std::atomic<bool> freed{false};

    bool Lived(const Version *v) const
    {
        return (line < 0 || line == v->line) && birth <= v->gen && v->gen < death;
    }
};

class History {
public:
    explicit History(unsigned seed) : random_(seed)
    {
        for (int i = 0; i < Lines; i++) {
            line_[i] = retire_shim_line_new(nullptr, nullptr);
            Renew(i, 1);
        }
    }

    void Commit()
    {
        uint64_t death = ++gen_;
        bool some = false;

        for (int i = 0; i < Lines; i++) {
            if (random_() % 2) {
                current_[i]->death = death;
                retire_shim_version_push(current_[i]->shim, death);
                Renew(i, death);
                RetireObjects(i, death);
                some = true;
            }
        }
        if (some || random_() % 2) {
            RetireObjects(-1, death);
        }
        retire_shim_flush();
        retire_shim_help();
    }

    void PinSome()
    {
        for (int i = 0; i < Lines; i++) {
            if (random_() % 3 == 0) {
                current_[i]->pins++;
                retire_shim_version_pin(current_[i]->shim);
            }
        }
    }

    void UnpinSome(unsigned one_in)
    {
        for (auto &v : versions_) {
            if (v->pins && random_() % one_in == 0) {
                v->pins--;
                retire_shim_version_unpin(v->shim);
            }
        }
    }

    /* Nothing too early, at once; nothing too late, after a while. */
    void Check()
    {
        for (auto &o : objects_) {
            ASSERT_FALSE(o->freed && Held(*o, true));
        }
        for (auto &v : versions_) {
            ASSERT_FALSE(v->freed && (v->pins || !v->death));
        }
        for (int i = 0; i < 5000 && Late(); i++) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        ASSERT_EQ(Late(), 0);
    }

    void End()
    {
        for (int i = 0; i < Lines; i++) {
            current_[i]->death = gen_ + 1;
            retire_shim_version_push(current_[i]->shim, gen_ + 1);
            retire_shim_line_unref(line_[i]);
        }
        retire_shim_flush();
        for (int i = 0; i < 20; i++) {
            UnpinSome(1);
        }
        retire_shim_help();
        Check();
    }

private:
    void Renew(int i, uint64_t gen)
    {
        versions_.push_back(std::make_unique<Version>());
        Version *v = versions_.back().get();

        v->line = i;
        v->gen = gen;
        v->shim = retire_shim_version_new(line_[i], gen, 100, Set, &v->freed);
        current_[i] = v;
    }

    void RetireObjects(int line, uint64_t death)
    {
        for (int n = int(random_() % 4); n > 0; n--) {
            uint64_t birth = death - 1 - random_() % std::min<uint64_t>(death - 1, 12);

            objects_.push_back(std::make_unique<Object>());
            Object *o = objects_.back().get();

            o->line = line;
            o->birth = birth;
            o->death = death;
            retire_shim_object_push(
                retire_shim_object_new(line < 0 ? nullptr : line_[line], birth, 10, Set, &o->freed), death);
        }
    }

    /* by_then: by a version that had been retired when the object was; else by any that is retired by now */
    bool Held(const Object &o, bool by_then) const
    {
        for (auto &v : versions_) {
            if (v->pins && v->death && o.Lived(v.get()) && (!by_then || v->death <= o.death)) {
                return true;
            }
        }
        return false;
    }

    int Late() const
    {
        int late = 0;

        for (auto &o : objects_) {
            late += !o->freed && !Held(*o, false);
        }
        for (auto &v : versions_) {
            late += !v->freed && v->death && !v->pins;
        }
        return late;
    }

    std::mt19937 random_;
    uint64_t gen_ = 1;
    ShimLine *line_[Lines];
    Version *current_[Lines];
    std::vector<std::unique_ptr<Version>> versions_;
    std::vector<std::unique_ptr<Object>> objects_;
};

TEST(RetireModel, PinsHoldExactlyWhatTheyReach)
{
    for (unsigned seed = 1; seed <= 12; seed++) {
        SCOPED_TRACE(seed);
        History history(seed);

        for (int step = 0; step < 60; step++) {
            history.PinSome();
            history.Commit();
            history.UnpinSome(step % 20 < 15 ? 8 : 2);
            if (step % 5 == 0) {
                history.Check();
                ASSERT_FALSE(HasFatalFailure());
            }
        }
        history.End();
        ASSERT_FALSE(HasFatalFailure());
    }
}

} // namespace
