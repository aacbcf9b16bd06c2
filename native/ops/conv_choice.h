// The choice text of a layer, "forward=2x8/24 dgrad=1x8/20np wgrad=2x8/24"; of a masked layer that the dense
// kernels compute, "dense forward=…", or "dense" alone: with tiles by the cost model.
#pragma once
#include <string>

#include "core/error.h"
#include "ops/conv.h"
#include "ops/conv_tiling.h"

namespace rp {

constexpr char kOnDenseKernels[] = "dense ";

inline bool on_dense_kernels(const std::string& text) { return (text + " ").rfind(kOnDenseKernels, 0) == 0; }
inline std::string tiles_of_choice(const std::string& text) {
  if (!on_dense_kernels(text)) return text;
  return text.size() < sizeof kOnDenseKernels ? "" : text.substr(sizeof kOnDenseKernels - 1);
}

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

// Throws rp::Error where a tile lies across image blocks that are to be made one at a time.
inline void check_turns(const ConvChoices& c, const ConvLayouts& layouts) {
  const bool x_across = c.forward.across_blocks;
  const bool dy_across = (c.has_dgrad && c.dgrad.across_blocks) || (c.has_wgrad && c.wgrad.across_blocks);
  if (!(layouts.makes_x && x_across) && !(layouts.makes_dy && dy_across)) return;
  fail(
      "[conv] choice \"%s\": expected tiles of one image block (2x8/24, not b2x8/24), since what this layer "
      "reads is made block by block.",
      choices_text(c).c_str());
}

}  // namespace rp
