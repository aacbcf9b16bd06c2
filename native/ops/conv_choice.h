// The choice text of a layer, "forward=2x8/24 dgrad=1x8/20np wgrad=2x8/24", and the measured search behind
// it.
#pragma once
#include <chrono>
#include <string>
#include <vector>

#include "core/error.h"
#include "ops/conv_tiling.h"

namespace rp {

struct ConvChoices {
  TileChoice forward, dgrad, wgrad;
  bool has_dgrad = true, has_wgrad = true;
};

inline std::string choices_text(const ConvChoices& c) {
  std::string text = "forward=" + tile_text(c.forward);
  if (c.has_dgrad) text += " dgrad=" + tile_text(c.dgrad);
  if (c.has_wgrad) text += " wgrad=" + tile_text(c.wgrad);
  return text;
}

// The tile that `text` names for a pass ("forward"). Throws rp::Error when it names none.
inline TileChoice choice_of(const std::string& text, const std::string& pass) {
  const std::string padded = " " + text + " ";
  const size_t at = padded.find(" " + pass + "=");
  TileChoice choice;
  if (at != std::string::npos) {
    const size_t begin = at + pass.size() + 2;
    if (parse_tile(padded.substr(begin, padded.find(' ', begin) - begin), &choice)) return choice;
  }
  fail("[conv] expected the plan to name a tile for %s (\"%s=2x8/24\"), got \"%s\".", pass.c_str(),
       pass.c_str(), text.c_str());
}

// The fastest of the first few candidates by `run(candidate)`, which prepares and returns the passes' work as
// a callable. Bounded in time; candidates are best first by the model, so a short search loses little.
template <class Prepare>
TileChoice fastest(const std::vector<TileChoice>& candidates, const Prepare& prepare) {
  using Clock = std::chrono::steady_clock;
  constexpr double kBudget = 0.04;  // seconds a pass
  constexpr size_t kCandidates = 6;
  const auto seconds_since = [](Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  const Clock::time_point start = Clock::now();
  TileChoice best = candidates.front();
  double best_time = 1e30;
  for (size_t i = 0; i < candidates.size() && i < kCandidates && (i < 2 || seconds_since(start) < kBudget);
       i++) {
    const auto run = prepare(candidates[i]);
    run();
    for (int repeat = 0; repeat < 2; repeat++) {
      const Clock::time_point begin = Clock::now();
      run();
      const double time = seconds_since(begin);
      // A later candidate must win clearly: noise should not move the choice.
      if (time < best_time * (i == 0 ? 1.0 : 0.98)) {
        best_time = time;
        best = candidates[i];
      }
    }
  }
  return best;
}

}  // namespace rp
