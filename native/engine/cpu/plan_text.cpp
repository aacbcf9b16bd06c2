#include "engine/cpu/plan_text.h"

#include <cstdio>

#include "core/error.h"

namespace rp {
namespace cpu {
namespace {

void append_string(std::string& out, const std::string& text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
      out += escaped;
    } else {
      out += c;
    }
  }
  out += '"';
}

void append_field(std::string& out, const char* name, const std::string& value) {
  if (out.back() != '{') out += ", ";
  append_string(out, name);
  out += ": ";
  append_string(out, value);
}

// As much of JSON as write_plan uses; unknown string fields are skipped.
class Reader {
 public:
  explicit Reader(const std::string& text) : text_(text) {}

  PlanText plan() {
    PlanText plan;
    object([&](const std::string& field) {
      if (field == "layers") {
        array([&] { plan.layers.push_back(layer()); });
      } else {
        const std::string value = string();
        if (field == "engine") plan.engine = value;
        if (field == "isa") plan.isa = value;
      }
    });
    skip_space();
    if (at_ != text_.size()) stop("the end");
    return plan;
  }

 private:
  PlannedLayer layer() {
    PlannedLayer layer;
    object([&](const std::string& field) {
      const std::string value = string();
      if (field == "name") layer.name = value;
      if (field == "shape") layer.shape = value;
      if (field == "kernel") layer.kernel = value;
      if (field == "choice") layer.choice = value;
      if (field == "key") layer.key = value;
      if (field == "figures") layer.figures = value;
    });
    return layer;
  }

  template <class Field>
  void object(const Field& field) {
    expect('{');
    if (accept('}')) return;
    do {
      const std::string name = string();
      expect(':');
      field(name);
    } while (accept(','));
    expect('}');
  }

  template <class Element>
  void array(const Element& element) {
    expect('[');
    if (accept(']')) return;
    do {
      element();
    } while (accept(','));
    expect(']');
  }

  std::string string() {
    expect('"');
    std::string out;
    for (;;) {
      if (at_ >= text_.size()) stop("a closing quote");
      char c = text_[at_++];
      if (c == '"') return out;
      if (c == '\\') {
        if (at_ >= text_.size()) stop("an escape");
        c = text_[at_++];
        if (c == 'u') {
          unsigned code = 0;
          if (at_ + 4 > text_.size() || std::sscanf(text_.c_str() + at_, "%4x", &code) != 1 || code > 0x7f)
            stop("an ASCII escape");
          at_ += 4;
          c = static_cast<char>(code);
        } else if (c == 'n') {
          c = '\n';
        } else if (c == 't') {
          c = '\t';
        } else if (c != '"' && c != '\\' && c != '/') {
          stop("a known escape");
        }
      }
      out += c;
    }
  }

  void skip_space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
      at_++;
  }
  bool accept(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    at_++;
    return true;
  }
  void expect(char c) {
    const char what[] = {'\'', c, '\'', 0};
    if (!accept(c)) stop(what);
  }
  [[noreturn]] void stop(const char* expected) const {
    fail("[plan] expected %s at byte %zu of the plan's text.", expected, at_);
  }

  const std::string& text_;
  size_t at_ = 0;
};

}  // namespace

std::string write_plan(const PlanText& plan) {
  std::string out = "{";
  append_field(out, "engine", plan.engine);
  append_field(out, "isa", plan.isa);
  out += ", \"layers\": [";
  for (size_t i = 0; i < plan.layers.size(); i++) {
    out += i == 0 ? "\n  {" : ",\n  {";
    append_field(out, "name", plan.layers[i].name);
    append_field(out, "shape", plan.layers[i].shape);
    append_field(out, "kernel", plan.layers[i].kernel);
    append_field(out, "choice", plan.layers[i].choice);
    if (!plan.layers[i].key.empty()) append_field(out, "key", plan.layers[i].key);
    if (!plan.layers[i].figures.empty()) append_field(out, "figures", plan.layers[i].figures);
    out += "}";
  }
  out += "\n]}\n";
  return out;
}

PlanText read_plan(const std::string& text) { return Reader(text).plan(); }

}  // namespace cpu
}  // namespace rp
