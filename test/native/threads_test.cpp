// The thread team under the thread sanitizer: every member runs once a call, writes of a call are seen after
// it and by the next one, an exception comes out where the call was made, and a team ends at any moment.
#include "cpu/threads.h"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

void require_that(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

void test_every_member_runs_once() {
  for (int size = 1; size <= 5; size++) {
    rp::ThreadTeam team(size);
    std::vector<int> runs(size, 0);
    for (int call = 0; call < 500; call++) team.parallel([&](int member) { runs[member]++; });
    for (int member = 0; member < size; member++) require_that(runs[member] == 500, "500 runs a member");
  }
}

// Not atomic on purpose: the sanitizer sees whether a call's end orders its writes before the next call.
void test_calls_are_ordered() {
  rp::ThreadTeam team(4);
  std::vector<long> values(1003, 1);
  for (int call = 0; call < 200; call++) {
    team.parallel_range(static_cast<int64_t>(values.size()), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; i++) values[i]++;
    });
    // Read by another split: each member meets what others wrote.
    team.parallel([&](int member) {
      long sum = 0;
      for (size_t i = member; i < values.size(); i += 4) sum += values[i] - (call + 2);
      require_that(sum == 0, "writes of the last call are seen");
    });
  }
}

void test_exceptions_come_out() {
  rp::ThreadTeam team(3);
  for (int thrower = 0; thrower < 3; thrower++) {
    bool caught = false;
    try {
      team.parallel([&](int member) {
        if (member == thrower) throw std::runtime_error("member " + std::to_string(member));
      });
    } catch (const std::runtime_error&) {
      caught = true;
    }
    require_that(caught, "the exception reaches the caller");
    team.parallel([](int) {});
  }
}

void test_teams_end_at_any_moment() {
  for (int i = 0; i < 50; i++) {
    rp::ThreadTeam team(4);
    if (i % 2) team.parallel([](int) {});
  }
}

}  // namespace

int main() {
  test_every_member_runs_once();
  test_calls_are_ordered();
  test_exceptions_come_out();
  test_teams_end_at_any_moment();
  std::puts("threads_test: 4 tests passed");
}
