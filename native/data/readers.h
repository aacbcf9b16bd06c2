// Readers of foreign files. Every length is bounded before anything is allocated for it; damage is a
// CorruptError that names file, offset, what was expected and what came.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/image_set.h"

namespace rp {

// CIFAR binary version (Krizhevsky 2009): rows of label bytes, then 3072 bytes (3, 32, 32). CIFAR-10 has one
// label byte; CIFAR-100 has two, coarse (20 classes) and fine (100), of which the fine one is taken. Any
// whole number of rows is a valid file; the files are read one after another into one set.
std::unique_ptr<ImageSet> read_cifar(const std::vector<std::string>& paths, bool cifar100);

struct NamedBytes {
  std::string name;  // for messages: the file
  const uint8_t* data;
  int64_t size;
};

// IDX (LeCun's MNIST format): uint8 images (N, H, W) and labels (N). Images are centred in `side` x `side`
// with black around them, and their one channel is repeated three times.
std::unique_ptr<ImageSet> read_idx(const NamedBytes& images, const NamedBytes& labels, int classes, int side);

}  // namespace rp
