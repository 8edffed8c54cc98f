// SPDX-License-Identifier: MIT
// A machine led through random maps has the views of one built from nothing; and the calls are as few as they can be.
#include "shim/machine_shim.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

namespace {

std::string Steps(const std::string &before, const std::string &after)
{
    char text[1024];
    const std::string head = "# memtopo 1\n";

    if (!machine_shim_step((head + before).c_str(), (head + after).c_str(), text, sizeof(text))) {
        return "refused";
    }
    return text;
}

std::string Region(int id, const std::string &container, int offset, int priority = 0, const char *flags = "et----o---",
                   const char *alias = "-", const char *name = "r")
{
    char text[256];

    snprintf(text, sizeof(text), "region %d %s %x 10 %d %s %s 0 0 %s\n", id, container.c_str(), offset, priority, flags,
             alias, name);
    return text;
}

const std::string kBus = "region 1 - 0 1000 0 e-----o--- - 0 0 bus\n";

TEST(Step, NothingToDoIsNothingDone)
{
    const std::string map = kBus + Region(2, "1", 0) + Region(3, "1", 0x10) + "as 0 1 - m\n";

    EXPECT_EQ(Steps(map, map), "");
}

TEST(Step, AttributesAreSetInPlace)
{
    EXPECT_EQ(Steps(kBus + Region(2, "1", 0), kBus + Region(2, "1", 0x20)), "S2 ");
    EXPECT_EQ(Steps(kBus + Region(2, "1", 0), kBus + Region(2, "1", 0, 0, "-t----o---")), "S2 ");
}

TEST(Step, NewcomersOnTopLeaveTheOthersAlone)
{
    EXPECT_EQ(Steps(kBus + Region(2, "1", 0), kBus + Region(3, "1", 0) + Region(2, "1", 0)), "M3 A3 ");
}

TEST(Step, NewcomersBelowMoveWhatIsAbove)
{
    EXPECT_EQ(Steps(kBus + Region(2, "1", 0), kBus + Region(2, "1", 0) + Region(3, "1", 0)), "M3 D2 A3 A2 ");
    // ...but not what has another priority.
    EXPECT_EQ(Steps(kBus + Region(2, "1", 0, 1), kBus + Region(2, "1", 0, 1) + Region(3, "1", 0)), "M3 A3 ");
}

TEST(Step, APlaceAmongSiblingsIsTakenAgain)
{
    EXPECT_EQ(Steps(kBus + Region(2, "1", 0) + Region(3, "1", 0), kBus + Region(3, "1", 0) + Region(2, "1", 0)),
              "D3 A3 ");
    EXPECT_EQ(Steps(kBus + Region(2, "1", 0), kBus + Region(2, "1", 0, 5)), "D2 A2 ");
}

TEST(Step, AnotherKindOrNameIsAnotherRegionAndSoIsItsAlias)
{
    const std::string alias = Region(3, "1", 0x20, 0, "e-----o---", "2");

    EXPECT_EQ(Steps(kBus + Region(2, "1", 0) + alias, kBus + Region(2, "1", 0, 0, "e-----o---") + alias),
              "M2 M3 D2 D3 A3 A2 G3 G2 ");
    EXPECT_EQ(Steps(kBus + Region(2, "1", 0), kBus + Region(2, "1", 0, 0, "et----o---", "-", "other")),
              "M2 D2 A2 G2 ");
}

TEST(Step, SpacesFollowTheirRootAndName)
{
    EXPECT_EQ(Steps(kBus + "as 0 1 - a\nas 1 1 - b\n", kBus + "as 0 1 - b\nas 1 1 - c\n"), "+1 -0 ");
    EXPECT_EQ(Steps(kBus + "as 0 1 - a\n", Region(2, "-", 0) + "as 0 2 - a\n"), "M2 +0 G1 -0 ");
}

// ---- random maps --------------------------------------------------------------------------------------------------

class Maps {
public:
    explicit Maps(unsigned seed) : random_(seed)
    {
        for (Node &n : nodes_) {
            Draw(&n);
        }
    }

    /* Change a few things; ids persist. */
    void Mutate()
    {
        for (int n = Below(6); n >= 0; n--) {
            Node &node = nodes_[1 + Below(kNodes - 1)];

            switch (Below(8)) {
            case 0: Draw(&node); break;
            case 1: node.present = !node.present; break;
            case 2: node.enabled = !node.enabled; break;
            case 3: node.offset = Address(); break;
            case 4: node.order = Below(1000); break;
            case 5: node.priority = Below(3) - 1; break;
            case 6: node.alias_offset = Address(); break;
            default: node.readonly = !node.readonly; break;
            }
        }
        if (Below(4) == 0) {
            two_spaces_ = !two_spaces_;
        }
    }

    std::string Text()
    {
        text_ = "# memtopo 1\n";
        Emit(0, -1);
        for (int i = 1; i < kNodes; i++) { // targets that stand nowhere
            if (nodes_[i].present && nodes_[i].up == -1) {
                Emit(i, -1);
            }
        }
        text_ += "as 0 0 - memory\n";
        if (two_spaces_) {
            text_ += "as 1 0 - dma\n";
        }
        return text_;
    }

private:
    static const int kNodes = 14;

    struct Node {
        int up, alias, order, priority;
        unsigned offset, size, alias_offset;
        bool present, enabled, readonly, nonvolatile;
        char kind; // c container, i I/O, m RAM, d ROM device, a alias
    };

    int Below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
    unsigned Address() { return static_cast<unsigned>(Below(32)) * 0x100; }

    void Draw(Node *n)
    {
        int index = static_cast<int>(n - nodes_);

        n->up = index == 0 || Below(6) == 0 ? -1 : Below(index);
        n->kind = "cciimmdaaa"[Below(10)];
        n->alias = Below(kNodes);
        n->order = Below(1000);
        n->priority = Below(3) - 1;
        n->offset = Address();
        n->size = Below(8) ? Address() : 0;
        n->alias_offset = Address();
        n->present = Below(8) != 0;
        n->enabled = Below(5) != 0;
        n->readonly = Below(5) == 0;
        n->nonvolatile = Below(9) == 0;
        if (index == 0) {
            n->kind = 'c';
            n->present = n->enabled = true;
            n->offset = 0;
            n->size = 0x10000;
        }
    }

    /* Does it end up in the map? Then so does all it hangs on. */
    bool Stands(int i) const
    {
        const Node &n = nodes_[i];

        return n.present && (n.up == -1 || (nodes_[n.up].kind != 'a' && Stands(n.up))) &&
               (n.kind != 'a' || (n.alias > i && Stands(n.alias))); // aliases of greater ids only: no circles
    }

    void Emit(int i, int up)
    {
        const Node &n = nodes_[i];
        const bool alias = n.kind == 'a', ram = n.kind == 'm', device = n.kind == 'd';
        char line[256];
        std::vector<int> children;

        if (!Stands(i)) {
            return;
        }
        snprintf(line, sizeof(line), "region %d %s %x %x %d %c%c%c%c%c%c%c--%c %s %x %d r%d\n", i,
                 up < 0 ? "-" : std::to_string(up).c_str(), n.offset, n.size, up < 0 ? 0 : n.priority,
                 n.enabled ? 'e' : '-', n.kind == 'i' || ram || device ? 't' : '-', ram ? 'm' : '-',
                 n.readonly ? 'r' : '-', n.nonvolatile ? 'v' : '-', device ? 'd' : '-',
                 device && n.order % 2 ? '-' : 'o', ram || device ? 'b' : '-',
                 alias ? std::to_string(n.alias).c_str() : "-", alias ? n.alias_offset : 0, n.order % 8, i);
        text_ += line;
        for (int c = i + 1; c < kNodes; c++) {
            if (nodes_[c].up == i) {
                children.push_back(c);
            }
        }
        std::sort(children.begin(), children.end(), [this](int a, int b) {
            const Node &x = nodes_[a], &y = nodes_[b];

            return x.priority != y.priority ? x.priority > y.priority : x.order != y.order ? x.order < y.order : a < b;
        });
        for (int c : children) {
            Emit(c, i);
        }
    }

    std::mt19937 random_;
    Node nodes_[kNodes];
    bool two_spaces_ = false;
    std::string text_;
};

void Lead(bool each, unsigned seeds, int steps)
{
    for (unsigned seed = 1; seed <= seeds; seed++) {
        Maps maps(seed);
        std::vector<std::string> texts;
        std::vector<const char *> pointers;
        char complaint[1024] = "";

        for (int i = 0; i < steps; i++, maps.Mutate()) {
            texts.push_back(maps.Text());
        }
        for (const std::string &text : texts) {
            pointers.push_back(text.c_str());
        }
        ASSERT_TRUE(machine_shim_lead(pointers.data(), pointers.size(), each, complaint, sizeof(complaint)))
            << "seed " << seed << ": " << complaint << "\n";
    }
}

TEST(StepModel, LedInTransactionsAsBuiltFromNothing)
{
    Lead(false, 400, 30);
}

TEST(StepModel, LedCallByCallAsBuiltFromNothing)
{
    Lead(true, 150, 16);
}

} // namespace
