// A built-in image set, rendered from a seed: for machines that have no data. One object on a plain
// background; its class is what it is (shape, surface pattern, pattern behind it), never where, how large,
// how turned, how coloured or how lit it is. Contrast has a random sign, so every class has the same mean
// image and a linear model on pixels has nothing to learn; a small CNN learns it over some epochs. Accuracies
// on it mean nothing outside it.
#pragma once
#include <cstdint>
#include <memory>

#include "data/image_set.h"

namespace rp {

struct ProceduralSpec {
  uint64_t seed = 0;
  bool test = false;  // the test split shares no draw with the training split
  int64_t count = 0;
  int classes = 10;  // 2 .. 1000
  int side = 32;
  bool lazy = false;  // render an image whenever it is read instead of keeping all of them
};

std::unique_ptr<ImageSet> procedural_images(const ProceduralSpec& spec);

}  // namespace rp
