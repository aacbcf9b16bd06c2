#include "data/readers.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace rp {
namespace {

constexpr int kCifarSide = 32, kCifarPixels = 3 * kCifarSide * kCifarSide;

struct File {
  // Looks before it opens: opening a pipe would wait for its writer.
  explicit File(const std::string& path) : path(path) {
    struct stat info;
    if (stat(path.c_str(), &info) != 0) fail("%s: %s.", path.c_str(), std::strerror(errno));
    if (!S_ISREG(info.st_mode)) fail("%s: expected a file, got a directory or a device.", path.c_str());
    size = info.st_size;
    handle = std::fopen(path.c_str(), "rb");
    if (!handle) fail("%s: %s.", path.c_str(), std::strerror(errno));
  }
  ~File() { std::fclose(handle); }
  File(const File&) = delete;

  const std::string path;
  std::FILE* handle = nullptr;
  int64_t size = 0;
};

std::string bytes_text(int64_t count) { return std::to_string(count) + (count == 1 ? " byte" : " bytes"); }

// Rows of `file`, checked against its size.
int64_t cifar_rows(const File& file, int64_t row_bytes) {
  const int64_t rest = file.size % row_bytes;
  if (file.size == 0 || rest != 0)
    throw CorruptError(file.path, file.size - rest, "whole rows of " + bytes_text(row_bytes),
                       bytes_text(rest));
  return file.size / row_bytes;
}

int32_t checked_label(const File& file, int64_t offset, int value, int classes) {
  if (value >= classes)
    throw CorruptError(file.path, offset, "a label below " + std::to_string(classes), std::to_string(value));
  return value;
}

// Big-endian, as IDX stores it.
uint32_t read_u32(const uint8_t* p) {
  return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | p[3];
}

// Checks the header of an IDX file of uint8 with `rank` dimensions and that the file ends where they say.
std::vector<int64_t> idx_dimensions(const NamedBytes& file, int rank) {
  const int64_t header = 4 + 4 * rank;
  if (file.size >= 4) {
    const uint32_t magic = read_u32(file.data), expected = 0x0800u + static_cast<uint32_t>(rank);
    if (magic != expected)
      throw CorruptError(file.name, 0, "IDX magic number " + std::to_string(expected), std::to_string(magic));
  }
  if (file.size < header)
    throw CorruptError(file.name, file.size, "an IDX header of " + bytes_text(header), "the end of the file");
  std::vector<int64_t> dimensions;
  int64_t elements = 1;
  for (int i = 0; i < rank; i++) {
    const int64_t length = read_u32(file.data + 4 + 4 * i);
    if (length == 0 || length > kMaxSetBytes / elements)
      throw CorruptError(file.name, 4 + 4 * i,
                         "a length from 1 to " + std::to_string(kMaxSetBytes / elements),
                         std::to_string(length));
    elements *= length;
    dimensions.push_back(length);
  }
  if (file.size != header + elements)
    throw CorruptError(file.name, std::min(file.size, header + elements),
                       bytes_text(elements) + " after the header", bytes_text(file.size - header));
  return dimensions;
}

}  // namespace

std::unique_ptr<ImageSet> read_cifar(const std::vector<std::string>& paths, bool cifar100) {
  const int label_bytes = cifar100 ? 2 : 1, classes = cifar100 ? 100 : 10;
  const int64_t row_bytes = label_bytes + kCifarPixels;

  std::vector<std::unique_ptr<File>> files;
  int64_t rows = 0;
  for (const std::string& path : paths) {
    files.push_back(std::make_unique<File>(path));
    rows += cifar_rows(*files.back(), row_bytes);
    if (rows > kMaxSetBytes / row_bytes)
      fail("%s: expected at most %lld bytes of images in memory, got more.", path.c_str(),
           static_cast<long long>(kMaxSetBytes));
  }

  std::vector<uint8_t> pixels(static_cast<size_t>(rows * kCifarPixels));
  std::vector<int32_t> labels;
  labels.reserve(static_cast<size_t>(rows));
  std::vector<uint8_t> row(static_cast<size_t>(row_bytes));
  for (const auto& file : files) {
    for (int64_t offset = 0; offset < file->size; offset += row_bytes) {
      const size_t got = std::fread(row.data(), 1, row.size(), file->handle);
      if (got != row.size()) {
        if (std::ferror(file->handle))
          fail("%s: read failed at byte %lld.", file->path.c_str(), static_cast<long long>(offset));
        throw CorruptError(file->path, offset + static_cast<int64_t>(got),
                           "a row of " + bytes_text(row_bytes), "the end of the file");
      }
      if (cifar100) checked_label(*file, offset, row[0], 20);
      const int32_t label = checked_label(*file, offset + label_bytes - 1, row[label_bytes - 1], classes);
      std::memcpy(pixels.data() + labels.size() * kCifarPixels, row.data() + label_bytes, kCifarPixels);
      labels.push_back(label);
    }
  }
  return std::make_unique<ResidentImageSet>(ImageShape{3, kCifarSide, kCifarSide}, classes, std::move(pixels),
                                            std::move(labels));
}

std::unique_ptr<ImageSet> read_idx(const NamedBytes& images, const NamedBytes& labels, int classes,
                                   int side) {
  const std::vector<int64_t> shape = idx_dimensions(images, 3);
  const int64_t count = shape[0];
  for (int i = 1; i < 3; i++)
    if (shape[i] > side)
      throw CorruptError(images.name, 4 + 4 * i,
                         "images of at most " + std::to_string(side) + " pixels a side",
                         std::to_string(shape[i]));
  const int64_t plane = int64_t{side} * side;
  if (count > kMaxSetBytes / (3 * plane))
    throw CorruptError(images.name, 4, "at most " + std::to_string(kMaxSetBytes / (3 * plane)) + " images",
                       std::to_string(count));
  const int64_t label_count = idx_dimensions(labels, 1)[0];
  if (label_count != count)
    throw CorruptError(labels.name, 4, std::to_string(count) + " labels, one an image",
                       std::to_string(label_count));

  std::vector<int32_t> classes_of(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; i++) {
    const int label = labels.data[8 + i];
    if (label >= classes)
      throw CorruptError(labels.name, 8 + i, "a label below " + std::to_string(classes),
                         std::to_string(label));
    classes_of[i] = label;
  }

  const int height = static_cast<int>(shape[1]), width = static_cast<int>(shape[2]);
  const int top = (side - height) / 2, left = (side - width) / 2;
  std::vector<uint8_t> pixels(static_cast<size_t>(count * 3 * plane));
  for (int64_t i = 0; i < count; i++) {
    uint8_t* image = pixels.data() + i * 3 * plane;
    const uint8_t* source = images.data + 16 + i * height * width;
    for (int y = 0; y < height; y++)
      std::memcpy(image + (top + y) * side + left, source + y * width, static_cast<size_t>(width));
    std::memcpy(image + plane, image, static_cast<size_t>(plane));
    std::memcpy(image + 2 * plane, image, static_cast<size_t>(plane));
  }
  return std::make_unique<ResidentImageSet>(ImageShape{3, side, side}, classes, std::move(pixels),
                                            std::move(classes_of));
}

}  // namespace rp
