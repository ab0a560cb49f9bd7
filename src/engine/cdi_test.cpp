// CDI: what a specification says, which devices a request means, and what becomes of a plan.
#include "engine/cdi.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/fake_parts.hpp"

namespace caisson::engine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::string_view card = R"({"cdiVersion":"0.6.0","kind":"example.com/card","containerEdits":{"env":["ALL=1"]},"devices":[
  {"name":"a","containerEdits":{"env":["CARD=a"],"deviceNodes":[{"path":"/dev/card","hostPath":"/dev/null","permissions":"rw"}],
   "mounts":[{"hostPath":"/usr/lib/x.so","containerPath":"/lib/x.so","options":["ro"]}],
   "hooks":[{"hookName":"createContainer","path":"/bin/hook","args":["hook","update"],"timeout":5}],"additionalGids":[44]}},
  {"name":"b","containerEdits":{"env":["CARD=b"]}}]})";

class Cdi : public testing::Test {
 protected:
  std::map<std::string, CdiSpec> specs(std::initializer_list<std::pair<const char*, std::string>> files) {
    for (const auto& [name, text] : files) EXPECT_TRUE(linux::write_file(folder.path() + "/" + name, text).ok());
    return read_cdi_specs({"/nonexistent", folder.path()}, broken);
  }
  fake::TempFolder folder;
  std::vector<std::string> broken;
};

TEST_F(Cdi, a_device_brings_its_own_edits_and_those_for_all) {
  auto known = specs({{"card.json", std::string(card)}});
  auto edits = collect_cdi_edits({"example.com/card=a"}, known, broken);
  ASSERT_TRUE(edits.ok()) << edits.error().text();
  EXPECT_THAT(edits->env, ElementsAre("ALL=1", "CARD=a"));
  ASSERT_EQ(edits->devices.size(), 1U);
  EXPECT_EQ(edits->devices[0].path_on_host, "/dev/null");
  EXPECT_EQ(edits->devices[0].path_in_container, "/dev/card");
  EXPECT_EQ(edits->devices[0].permissions, "rw");
  runtime::Spec plan;
  plan.process.env = {"PATH=/bin", "CARD=old"};
  apply_cdi_edits(*edits, plan);
  EXPECT_THAT(plan.process.env, testing::UnorderedElementsAre("PATH=/bin", "ALL=1", "CARD=a"));
  ASSERT_EQ(plan.mounts.size(), 1U);
  EXPECT_THAT(plan.mounts[0].options, ElementsAre("ro", "bind"));
  ASSERT_EQ(plan.hooks.create_container.size(), 1U);
  EXPECT_EQ(plan.hooks.create_container[0].timeout_seconds, 5);
  EXPECT_THAT(plan.process.user.additional_gids, ElementsAre(44));
}

TEST_F(Cdi, requests_mean_names_and_gpus_are_nvidias) {
  auto known = specs({{"gpu.json", R"({"cdiVersion":"0.6.0","kind":"nvidia.com/gpu","devices":[{"name":"0","containerEdits":{}},{"name":"1","containerEdits":{}},{"name":"all","containerEdits":{}}]})"}});
  DeviceRequest gpus{"", -1, {}, {{"gpu"}}};
  EXPECT_THAT(cdi_names({gpus}, known).value_or({}), ElementsAre("nvidia.com/gpu=all"));
  gpus.count = 2;
  EXPECT_THAT(cdi_names({gpus}, known).value_or({}), ElementsAre("nvidia.com/gpu=0", "nvidia.com/gpu=1"));
  EXPECT_THAT(cdi_names({DeviceRequest{"cdi", 0, {"a.com/b=c"}, {}}}, known).value_or({}), ElementsAre("a.com/b=c"));
  auto none = cdi_names({gpus}, {});
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().text(), "could not select device driver \"\" with capabilities: [[gpu]]");
  EXPECT_FALSE(cdi_names({DeviceRequest{"", 1, {}, {{"tpu"}}}}, known).ok());
}

TEST_F(Cdi, what_is_missing_is_named_and_files_that_cannot_be_read_are_the_hint) {
  auto known = specs({{"card.json", std::string(card)}, {"bad.json", "{"}, {"bad.yaml", "cdiVersion: 0.6.0\nkind: &k a/b\n"}, {"other.txt", "no"}});
  EXPECT_THAT(broken, ElementsAre(HasSubstr("bad.json: "), HasSubstr("/bad.yaml: CDI specification: line 2: anchors and aliases are not read")));
  auto edits = collect_cdi_edits({"example.com/card=a", "example.com/card=z", "other.com/x=1"}, known, broken);
  ASSERT_FALSE(edits.ok());
  EXPECT_EQ(edits.error().text(), "CDI device injection failed: unresolvable CDI devices example.com/card=z, other.com/x=1");
  EXPECT_THAT(edits.error().hint(), HasSubstr("bad.json"));
}

TEST_F(Cdi, yaml_is_read_as_nvidias_generator_writes_it) {
  // nvidia-ctk cdi generate, cut short.
  auto known = specs({{"nvidia.yaml", R"(---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  hooks:
  - args:
    - nvidia-cdi-hook
    - create-symlinks
    - --link
    - ../libnvidia-allocator.so.1::/usr/lib/gbm/nvidia-drm_gbm.so
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  mounts:
  - containerPath: /usr/lib/libcuda.so.1
    hostPath: /usr/lib/libcuda.so.1
    options:
    - ro
    - bind
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: "0"
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: all
kind: nvidia.com/gpu
)"}});
  EXPECT_THAT(broken, IsEmpty());
  EXPECT_THAT(cdi_names({DeviceRequest{"", -1, {}, {{"gpu"}}}}, known).value_or({}), ElementsAre("nvidia.com/gpu=all"));
  auto edits = collect_cdi_edits({"nvidia.com/gpu=0"}, known, broken);
  ASSERT_TRUE(edits.ok()) << edits.error().text();
  ASSERT_EQ(edits->devices.size(), 2U);
  EXPECT_EQ(edits->devices[1].path_on_host, "/dev/nvidia0");
  ASSERT_EQ(edits->hooks.create_container.size(), 1U);
  EXPECT_THAT(edits->hooks.create_container[0].args, ElementsAre("nvidia-cdi-hook", "create-symlinks", "--link", HasSubstr(".so.1::/usr")));
  EXPECT_THAT(edits->mounts[0].options, ElementsAre("ro", "bind"));
}

TEST_F(Cdi, broken_specifications_are_refused) {
  for (std::string_view text : {"[]", "{}", R"({"cdiVersion":"1","kind":"nokind"})", R"({"cdiVersion":"1","kind":"a/b","devices":[{}]})",
                                R"({"cdiVersion":"1","kind":"a/b","containerEdits":{"deviceNodes":[{"path":"relative"}]}})",
                                R"({"cdiVersion":"1","kind":"a/b","containerEdits":{"hooks":[{"hookName":"bogus","path":"/x"}]}})",
                                R"({"cdiVersion":"1","kind":"a/b","containerEdits":{"mounts":[{"containerPath":"/x"}]}})"})
    EXPECT_FALSE(parse_cdi_spec(text, CdiFormat::json).ok()) << text;
}

}  // namespace
}  // namespace caisson::engine
