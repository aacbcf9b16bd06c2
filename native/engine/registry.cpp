#include "engine/registry.h"

#include "core/error.h"
#include "engine/engines.h"

namespace rp {
namespace {

struct Entry {
  const char* name;
  RpEngineEntry entry;  // null: this build lacks it
  const char* missing;  // what to do then
};

// A back-end that lives in a library of its own has an entry that opens the library (dlopen) and forwards to
// the `rp_engine_entry` it exports.
constexpr Entry kEngines[] = {
    {"cpu", rp_cpu_engine, nullptr},
    {"reference", rp_reference_engine, nullptr},
    {"cuda", nullptr,
     "--device cuda: this build has no CUDA back-end. Run `npm run build:cuda`, or pass --device cpu."},
};

}  // namespace

const RpEngineApi& find_engine(const std::string& name) {
  std::string known;
  for (const Entry& engine : kEngines) {
    if (name != engine.name) {
      if (engine.entry) known += (known.empty() ? "" : ", ") + std::string(engine.name);
      continue;
    }
    if (!engine.entry) fail("%s", engine.missing);
    const RpEngineApi* api = engine.entry(RP_ENGINE_ABI_VERSION);
    if (!api || api->abi_version != RP_ENGINE_ABI_VERSION) {
      fail(
          "[engine] expected engine \"%s\" to serve ABI version %u, got version %u. Rebuild with `rp build`.",
          engine.name, RP_ENGINE_ABI_VERSION, api ? api->abi_version : 0u);
    }
    return *api;
  }
  fail("[engine] unknown engine \"%s\". Known: %s.", name.c_str(), known.c_str());
}

std::vector<std::string> engine_names() {
  std::vector<std::string> names;
  for (const Entry& engine : kEngines) {
    if (engine.entry) names.push_back(engine.name);
  }
  return names;
}

}  // namespace rp
