# A shim for those who run node-gyp: its one action calls the CMake build, which knows the sources.
{
  "targets": [
    {
      "target_name": "random_pruning",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(module_root_dir)/build/Release/random_pruning.node"],
          "action": ["node", "scripts/build-native.mjs", "--quiet"],
        }
      ],
    }
  ]
}
