#include "ops/conv_search.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>

#include "core/error.h"
#include "cpu/features.h"
#include "cpu/threads.h"
#include "ops/conv_choice.h"
#include "ops/conv_kinds.h"

namespace rp {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kPassSeconds = 0.6;    // either half of a pass's search ends after this, whatever is left
constexpr double kListSeconds = 0.3;    // and wgrad's of one list
constexpr size_t kCandidates = 24;      // tiles timed at most
constexpr int kRounds = 3;              // of these, each with half as many as the one before
constexpr size_t kFinalists = 4;        // of the tiles timed, with each memory hint
constexpr int kFinalRounds = 6;         // the slower half leaves after every second
constexpr int kNearerRounds = 5;        // of the winner, fetching to L2 and to L1
constexpr double kNearerPays = 0.98;    // of the time to L2, at most
constexpr size_t kWgradCandidates = 8;  // for each of the lists that suit forward best
constexpr size_t kLists = 2;            // of pairs, and as many of single outputs
constexpr double kThreadMacs = 0.25e9;  // useful multiply-adds a thread and run: a few milliseconds
constexpr int kFewestRows = 8;
constexpr int kFewestBlocks = 4;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

Layout with_height(const Layout& l, int height) { return make_layout(l.channels, height, l.width, l.border); }

struct Timed {
  TileChoice choice;
  double seconds;
};

bool faster(const Timed& a, const Timed& b) { return a.seconds < b.seconds; }

// One layer, cut down, and the choices made so far.
class LayerSearch {
 public:
  LayerSearch(const ConvShape& shape, const MaskView& mask, const ConvLayouts& layouts,
              const ConvOptions& options, bool dense, ThreadTeam& team, SearchMemory& memory,
              const volatile int32_t* cancel)
      : shape_(shape),
        mask_(mask),
        layouts_(layouts),
        options_(options),
        dense_(dense),
        team_(team),
        memory_(memory),
        cancel_(cancel),
        values_(mask.nnz, 0.37f) {
    options_.measure = false;
    cut_down();
    memory_.inputs.reserve(floats(layouts_.x) + floats(layouts_.dy));
    memory_.outputs.reserve(std::max(floats(layouts_.y), floats(layouts_.dx)));
    choices_.has_dgrad = layouts.has_dgrad;
    choices_.has_wgrad = layouts.has_wgrad;
  }

  ConvSearched search() {
    // A layer without kept weights has nothing to time.
    if (mask_.bits != nullptr && mask_.nnz == 0) return {};
    search_forward_and_wgrad();
    if (choices_.has_dgrad) search_dgrad();
    if (choices_.has_dgrad && choices_.has_wgrad && !dense_) search_backward();
    ConvSearched found;
    found.choice = choice_text(choices_);
    char text[96];
    std::snprintf(text, sizeof text, "forward %.3g", gflops(forward_seconds_));
    found.figures = text;
    if (choices_.has_dgrad && choices_.dgrad.dots) {
      std::snprintf(text, sizeof text, " backward %.3g", 2 * gflops(dgrad_seconds_));
      found.figures += text;
    } else {
      if (choices_.has_dgrad) std::snprintf(text, sizeof text, " dgrad %.3g", gflops(dgrad_seconds_));
      if (choices_.has_dgrad) found.figures += text;
      if (choices_.has_wgrad) std::snprintf(text, sizeof text, " wgrad %.3g", gflops(wgrad_seconds_));
      if (choices_.has_wgrad) found.figures += text;
    }
    found.figures += " GFLOP/s";
    return found;
  }

  // Of all passes, with the tiles found.
  double seconds() const { return forward_seconds_ + dgrad_seconds_ + wgrad_seconds_; }

 private:
  using Run = std::function<void(const ConvLayer&, const ConvWeights&)>;

  double macs() const {
    return static_cast<double>(mask_.nnz) * shape_.out_height() * shape_.out_width() * blocks_ *
           kImagesPerBlock;
  }
  std::string choice_text(const ConvChoices& choices) const {
    return (mask_.bits != nullptr && dense_ ? kOnDenseKernels : "") + choices_text(choices);
  }
  double gflops(double seconds) const { return 2e-9 * macs() / seconds; }

  // Fewer rows first: a row keeps every stride of the layout.
  void cut_down() {
    blocks_ = options_.max_blocks;
    const double most = kThreadMacs * team_.size();
    const int rows = shape_.out_height();
    if (macs() > most && rows > kFewestRows) {
      const int kept = std::clamp(static_cast<int>(rows * most / macs()), kFewestRows, rows);
      const int height = (kept - 1) * shape_.stride + shape_.kernel_h - 2 * shape_.padding;
      if (height >= 1 && height < shape_.in_height) {
        shape_.in_height = std::max(height, shape_.kernel_h);
        layouts_.x = with_height(layouts_.x, shape_.in_height);
        layouts_.y = with_height(layouts_.y, shape_.out_height());
        if (layouts_.has_dgrad || layouts_.has_wgrad)
          layouts_.dy = with_height(layouts_.dy, shape_.out_height());
        if (layouts_.has_dgrad) layouts_.dx = with_height(layouts_.dx, shape_.in_height);
      }
    }
    const int fewest = std::max(kFewestBlocks, team_.size());
    if (macs() > most && blocks_ > fewest)
      blocks_ = std::clamp(static_cast<int>(blocks_ * most / macs()), fewest, blocks_);
    options_.max_blocks = blocks_;
  }

  std::vector<TileChoice> candidates(ConvPassKind pass, int channels = 0) const {
    const Isa isa = options_.isa.empty() ? cpu_isa() : parse_isa(options_.isa);
    return dense_ ? dense_candidates(pass, shape_, layouts_, isa, blocks_)
                  : sparse_candidates(pass, shape_, mask_, layouts_, isa, blocks_, channels);
  }

  int64_t floats(const Layout& layout) const { return layout.floats_of_blocks(blocks_); }
  float* input(const Layout& layout) { return memory_.inputs.next(floats(layout)) + layout.margin; }
  float* output(const Layout& layout) { return memory_.outputs.next(floats(layout)) + layout.margin; }

  // Seconds of a run of a layer with these choices, which is built for the passes it is asked for alone.
  double time(const ConvChoices& choices, const Run& run) {
    ConvLayouts layouts = layouts_;
    layouts.has_dgrad = choices.has_dgrad;
    layouts.has_wgrad = choices.has_wgrad;
    ConvOptions options = options_;
    options.choice = choice_text(choices);
    const std::unique_ptr<ConvLayer> layer = make_conv(shape_, mask_, layouts, options, team_);
    const std::unique_ptr<ConvWeights> weights = layer->make_weights();
    layer->pack(values_.data(), *weights, team_);
    if (cancel_ && *cancel_) fail("[conv] the search for tiles was cancelled.");
    memory_.evict();
    const Clock::time_point begin = Clock::now();
    run(*layer, *weights);
    return seconds_since(begin);
  }

  // The tiles of a list by their time, as many as can be timed in so many seconds. The faster half is timed
  // again, and the faster half of that: some time later, as the machine's neighbours come and go.
  std::vector<Timed> time_all(const std::vector<TileChoice>& tiles, size_t most, double seconds,
                              const std::function<double(const TileChoice&)>& time_one) {
    const Clock::time_point begin = Clock::now();
    std::vector<Timed> timed;
    for (const TileChoice& tile : tiles) {
      if (timed.size() >= most || (timed.size() >= 2 && seconds_since(begin) > seconds)) break;
      timed.push_back({tile, time_one(tile)});
    }
    std::stable_sort(timed.begin(), timed.end(), faster);
    for (int round = 1; round < kRounds; round++) {
      for (size_t i = 0; i < (timed.size() + 1) >> round; i++)
        timed[i].seconds = std::min(timed[i].seconds, time_one(timed[i].choice));
      std::stable_sort(timed.begin(), timed.end(), faster);
    }
    return timed;
  }

  // The best of the first few, with each memory hint. They take turns: what else the machine does meanwhile
  // hits all of them.
  Timed finals(const std::vector<Timed>& ranked, bool stores,
               const std::function<double(const TileChoice&)>& time_one) {
    std::vector<Timed> entrants;
    for (size_t i = 0; i < ranked.size() && i < kFinalists; i++) {
      for (int hints = 0; hints < (stores ? 4 : 2); hints++) {
        TileChoice choice = ranked[i].choice;
        // Of tiles that suit it, along rows or down columns; of others, prefetched or not. Parts are made for
        // rows, and elementwise work goes with them.
        const bool hint = (hints & 1) != 0;
        if (layouts_.x.parts > 1 && !hint) continue;
        (choice.by_rows ? choice.by_rows : choice.prefetch) = hint;
        if (stores) choice.stream = (hints & 2) != 0;
        entrants.push_back({choice, 1e30});
      }
    }
    const Clock::time_point begin = Clock::now();
    for (int round = 1; round <= kFinalRounds && seconds_since(begin) < kPassSeconds; round++) {
      for (Timed& entrant : entrants) entrant.seconds = std::min(entrant.seconds, time_one(entrant.choice));
      std::stable_sort(entrants.begin(), entrants.end(), faster);
      if (round % 2 == 0) entrants.resize((entrants.size() + 1) / 2);
    }
    return nearer(entrants.front(), time_one);
  }

  // A tile that fetches ahead, into L2, or into L1 where that gains more than chance does.
  static Timed nearer(const Timed& found, const std::function<double(const TileChoice&)>& time_one) {
    if (!found.choice.prefetch) return found;
    Timed to_l2{found.choice, 1e30}, to_l1{found.choice, 1e30};
    to_l1.choice.to_l1 = true;
    for (int round = 1; round <= kNearerRounds; round++) {
      for (Timed* timed : {&to_l2, &to_l1})
        timed->seconds = std::min(timed->seconds, time_one(timed->choice));
    }
    return to_l1.seconds < kNearerPays * to_l2.seconds ? to_l1 : to_l2;
  }

  static bool same_list(const TileChoice& a, const TileChoice& b) {
    return a.channels == b.channels && a.pairs == b.pairs;
  }

  // Those that begin their list's ranking, at most so many with pairs and without.
  static std::vector<Timed> best_of_lists(const std::vector<Timed>& ranked, size_t most) {
    std::vector<Timed> best;
    size_t counts[2] = {0, 0};
    for (const Timed& timed : ranked) {
      const bool known = std::any_of(best.begin(), best.end(), [&](const Timed& other) {
        return same_list(other.choice, timed.choice);
      });
      if (known || counts[timed.choice.pairs] == most) continue;
      counts[timed.choice.pairs]++;
      best.push_back(timed);
    }
    return best;
  }

  // Wgrad of a sparse layer walks forward's list: chosen for the least sum.
  void search_forward_and_wgrad() {
    const auto forward = [this](const TileChoice& tile) { return time_forward(tile); };
    forwards_ = time_all(candidates(ConvPassKind::forward), kCandidates, kPassSeconds, forward);
    std::vector<Timed> forwards = forwards_;
    if (!choices_.has_wgrad) {
      set_forward(finals(forwards, true, forward));
      return;
    }
    std::vector<float> dw(mask_.nnz);
    TileChoice list;  // forward's
    const auto wgrad = [&](const TileChoice& tile) {
      ConvChoices choices;
      choices.forward = list;
      choices.wgrad = tile;
      choices.has_dgrad = false;
      return time(choices, [&](const ConvLayer& layer, const ConvWeights&) {
        layer.wgrad(input(layouts_.x), input(layouts_.dy), dw.data(), blocks_, false, team_);
      });
    };
    double least = 1e30;
    TileChoice best_list;
    std::vector<Timed> wgrads;
    for (const Timed& timed : best_of_lists(forwards, dense_ ? 1 : kLists)) {
      list = timed.choice;
      const std::vector<Timed> found =
          time_all(candidates(ConvPassKind::wgrad, list.channels), kWgradCandidates, kListSeconds, wgrad);
      if (timed.seconds + found.front().seconds < least) {
        least = timed.seconds + found.front().seconds;
        best_list = list;
        wgrads = found;
      }
    }
    if (!dense_) {
      forwards.erase(std::remove_if(forwards.begin(), forwards.end(),
                                    [&](const Timed& timed) { return !same_list(timed.choice, best_list); }),
                     forwards.end());
    }
    set_forward(finals(forwards, true, forward));
    list = choices_.forward;
    const Timed best = finals(wgrads, false, wgrad);
    choices_.wgrad = best.choice;
    wgrad_seconds_ = best.seconds;
  }

  // As training runs it: with batch norm's statistics, but for a classifier, which has a single position.
  double time_forward(const TileChoice& tile) {
    const int64_t positions = int64_t{shape_.out_height()} * shape_.out_width();
    const bool has_sums = choices_.has_wgrad && positions > 1;
    if (has_sums) sums_.resize(blocks_ * positions * 2 * shape_.out_channels);
    const ConvSums sums{sums_.data(), blocks_ / layouts_.y.parts * kImagesPerBlock};
    ConvChoices choices;
    choices.forward = tile;
    choices.has_dgrad = choices.has_wgrad = false;
    return time(choices, [&](const ConvLayer& layer, const ConvWeights& weights) {
      layer.forward(input(layouts_.x), weights, output(layouts_.y), blocks_, false, team_,
                    has_sums ? &sums : nullptr);
    });
  }

  void set_forward(const Timed& timed) {
    choices_.forward = timed.choice;
    forward_seconds_ = timed.seconds;
  }

  void search_dgrad() {
    const auto dgrad = [&](const TileChoice& tile) {
      ConvChoices choices = choices_;
      choices.dgrad = tile;
      choices.has_wgrad = false;
      return time(choices, [&](const ConvLayer& layer, const ConvWeights& weights) {
        layer.dgrad(input(layouts_.dy), weights, output(layouts_.dx), blocks_, kWriteAll, team_);
      });
    };
    const Timed best =
        finals(time_all(candidates(ConvPassKind::dgrad), kCandidates, kPassSeconds, dgrad), true, dgrad);
    choices_.dgrad = best.choice;
    dgrad_seconds_ = best.seconds;
  }

  // Both gradients by one kernel, where that is faster. Forward's list is then forward's alone.
  void search_backward() {
    std::vector<float> dw(mask_.nnz);
    const auto backward = [&](const TileChoice& tile) {
      ConvChoices choices = choices_;
      choices.dgrad = tile;
      return time(choices, [&](const ConvLayer& layer, const ConvWeights& weights) {
        ConvBackward run;
        run.x = input(layouts_.x);
        run.dy = input(layouts_.dy);
        run.dx = output(layouts_.dx);
        run.dw = dw.data();
        layer.backward(run, weights, blocks_, team_);
      });
    };
    const std::vector<TileChoice> tiles = candidates(ConvPassKind::backward);
    if (tiles.empty()) return;
    const Timed best = finals(time_all(tiles, kCandidates, kPassSeconds, backward), true, backward);
    if (best.seconds >= dgrad_seconds_ + wgrad_seconds_) return;
    choices_.dgrad = best.choice;
    dgrad_seconds_ = best.seconds;
    wgrad_seconds_ = 0;
    if (same_list(forwards_.front().choice, choices_.forward)) return;
    set_forward(finals(forwards_, true, [this](const TileChoice& tile) { return time_forward(tile); }));
    choices_.wgrad = candidates(ConvPassKind::wgrad, choices_.forward.channels).front();
  }

  ConvShape shape_;
  const MaskView& mask_;
  ConvLayouts layouts_;
  ConvOptions options_;
  bool dense_;  // the dense kernels, of a mask too
  ThreadTeam& team_;
  SearchMemory& memory_;
  const volatile int32_t* cancel_;
  std::vector<float> values_;
  std::vector<double> sums_;     // batch norm's, of a timed forward pass
  std::vector<Timed> forwards_;  // as ranked first, whatever their lists
  int blocks_ = 1;
  ConvChoices choices_;
  double forward_seconds_ = 0, dgrad_seconds_ = 0, wgrad_seconds_ = 0;
};

}  // namespace

std::string conv_search_key(const ConvShape& s, const MaskView& mask, const ConvLayouts& layouts,
                            int max_blocks) {
  char density[32] = "dense";
  if (mask.bits != nullptr && mask.nnz == 0) std::snprintf(density, sizeof density, "nothing kept");
  if (mask.bits != nullptr && mask.nnz > 0) {
    std::snprintf(density, sizeof density, "density 2^%g", density_quarters(s, mask) / 4.0);
  }
  return shape_text(s) + "; " + density + "; " + std::to_string(max_blocks * kImagesPerBlock) + " images" +
         (layouts.has_dgrad ? "" : "; no dgrad") + (layouts.has_wgrad ? "" : "; no wgrad");
}

ConvSearch::ConvSearch(ThreadTeam& team, const volatile int32_t* cancel)
    : team_(team), memory_(team), cancel_(cancel) {}

ConvSearched ConvSearch::search(const ConvShape& shape, const MaskView& mask, const ConvLayouts& layouts,
                                const ConvOptions& options) {
  LayerSearch first(shape, mask, layouts, options, mask.bits == nullptr, team_, memory_, cancel_);
  const ConvSearched found = first.search();
  if (mask.bits == nullptr || !suits_dense(shape, mask)) return found;
  LayerSearch dense(shape, mask, layouts, options, true, team_, memory_, cancel_);
  const ConvSearched found_dense = dense.search();
  return dense.seconds() < first.seconds() ? found_dense : found;
}

}  // namespace rp
