// Tests of load and save: round trips, docker-archives old and new, OCI layouts, other tools, and archives that lie.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "image/manifest.hpp"
#include "image/test_support.hpp"
#include "linux/spawn.hpp"

namespace caisson::image {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;
using namespace testing_support;

/// An image as documents, to be wrapped into any archive format.
struct Made {
  std::vector<std::string> layers;   ///< as transported
  std::vector<Digest> diff_ids;
  std::string config;
  std::string manifest;
};

Made make_image(const std::vector<std::string>& tars, bool compressed, const std::string& architecture = "amd64") {
  Made made;
  ImageConfig config;
  config.architecture = architecture;
  config.config.cmd = {"/bin/x"};
  Manifest manifest;
  manifest.media_type = media_type::oci_manifest;
  for (const auto& tar : tars) {
    made.diff_ids.push_back(sha256_of(tar));
    made.layers.push_back(compressed ? gzip(tar) : tar);
    Descriptor layer;
    layer.media_type = layer_media_type(compressed ? Compression::gzip : Compression::none);
    layer.digest = sha256_of(made.layers.back());
    layer.size_bytes = made.layers.back().size();
    manifest.layers.push_back(layer);
  }
  config.diff_ids = made.diff_ids;
  made.config = write_image_config(config);
  manifest.config.media_type = media_type::oci_config;
  manifest.config.digest = sha256_of(made.config);
  manifest.config.size_bytes = made.config.size();
  made.manifest = write_manifest(manifest);
  return made;
}

std::string two_layer_a() { return TarMaker().dir("etc").file("etc/base", "base").dir("tmp", 01777).done(); }
std::string two_layer_b() { return TarMaker().file("etc/top", "top").file("tmp/x", "x").file("etc/.wh.base").done(); }

TarMaker& add_blob(TarMaker& tar, const std::string& bytes) { return tar.file("blobs/sha256/" + std::string(sha256_of(bytes).hex()), bytes); }

std::string layout_of(const std::vector<Made>& images, const std::string& index_json) {
  TarMaker tar;
  tar.file("oci-layout", R"({"imageLayoutVersion":"1.0.0"})").file("index.json", index_json);
  for (const auto& image : images) {
    for (const auto& layer : image.layers) add_blob(tar, layer);
    add_blob(tar, image.config);
    add_blob(tar, image.manifest);
  }
  return tar.done();
}

Descriptor descriptor_of(const Made& image, const std::string& name = "") {
  Descriptor descriptor;
  descriptor.media_type = media_type::oci_manifest;
  descriptor.digest = sha256_of(image.manifest);
  descriptor.size_bytes = image.manifest.size();
  if (!name.empty()) descriptor.annotations["org.opencontainers.image.ref.name"] = name;
  return descriptor;
}

class Exchange : public testing::Test {
 protected:
  void SetUp() override {
    if (auto reason = why_not(); !reason.empty()) GTEST_SKIP() << reason;
    fixture_ = std::make_unique<Fixture>();
  }
  void refuse(const std::string& archive, const std::string& words) {
    auto images = fixture_->load(archive);
    ASSERT_FALSE(images.ok()) << "accepted; wanted: " << words;
    EXPECT_THAT(images.error().text(), HasSubstr(words));
    EXPECT_EQ((*fixture_)->list()->size(), 0U);
    EXPECT_EQ(fixture_->leftovers(), 0U);
  }
  std::unique_ptr<Fixture> fixture_;
};

TEST_F(Exchange, what_is_saved_loads_elsewhere_with_the_same_ids_and_names) {
  auto made = make_image({two_layer_a(), two_layer_b()}, true);
  Index index;
  index.manifests.push_back(descriptor_of(made, "registry.example/team/app:1"));
  auto loaded = fixture_->load(layout_of({made}, write_index(index)));
  ASSERT_TRUE(loaded.ok()) << loaded.error().text();
  ASSERT_EQ(loaded->size(), 1U);
  EXPECT_THAT((*loaded)[0].repo_tags, ElementsAre("registry.example/team/app:1"));
  ASSERT_TRUE((*fixture_)->tag("registry.example/team/app:1", "app").ok());
  auto first = fixture_->save({"app", "registry.example/team/app:1"});
  ASSERT_TRUE(first.ok()) << first.error().text();
  Fixture other;
  auto again = other.load(*first);
  ASSERT_TRUE(again.ok()) << again.error().text();
  ASSERT_EQ(again->size(), 1U);
  EXPECT_EQ((*again)[0].id, (*loaded)[0].id);
  EXPECT_THAT((*again)[0].repo_tags, UnorderedElementsAre("app:latest", "registry.example/team/app:1"));
  EXPECT_EQ(*other.save({"app", "registry.example/team/app:1"}), *first) << "save is not deterministic";
  EXPECT_EQ(*other->raw_config((*again)[0].id), made.config);
  auto dirs = other->lowerdirs((*again)[0].id);
  ASSERT_TRUE(dirs.ok());
  ASSERT_EQ(dirs->size(), 2U);
  EXPECT_TRUE(std::filesystem::exists((*dirs)[0] + "/etc/top"));
  EXPECT_TRUE(std::filesystem::exists((*dirs)[1] + "/etc/base"));
  EXPECT_EQ((*again)[0].size_bytes, 8U);
}

TEST_F(Exchange, a_load_tells_the_names_of_its_archive_and_not_those_the_image_has_already) {
  auto made = make_image({two_layer_a()}, false);
  Index named;
  named.manifests.push_back(descriptor_of(made, "app:1"));
  ASSERT_TRUE(fixture_->load(layout_of({made}, write_index(named))).ok());
  Index unnamed;
  unnamed.manifests.push_back(descriptor_of(made));
  auto again = fixture_->load(layout_of({made}, write_index(unnamed)));
  ASSERT_TRUE(again.ok()) << again.error().text();
  ASSERT_EQ(again->size(), 1U);
  EXPECT_TRUE((*again)[0].repo_tags.empty()) << "an unnamed archive names nothing";
  EXPECT_THAT((*fixture_)->find("app:1")->repo_tags, ElementsAre("app:1")) << "and takes no name away";
}

TEST_F(Exchange, implied_directories_take_the_attributes_of_the_layer_below) {
  auto made = make_image({two_layer_a(), two_layer_b()}, false);
  Index index;
  index.manifests.push_back(descriptor_of(made));
  auto loaded = fixture_->load(layout_of({made}, write_index(index)));
  ASSERT_TRUE(loaded.ok()) << loaded.error().text();
  struct stat status {};
  auto dirs = (*fixture_)->lowerdirs((*loaded)[0].id);
  ASSERT_EQ(::stat((dirs->at(0) + "/tmp").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 01777U) << "a layer that brings only tmp/x must not close /tmp";
}

TEST_F(Exchange, old_docker_archives_with_linked_layers_load) {
  auto made = make_image({two_layer_a(), two_layer_b()}, false);
  std::string config_name = std::string(sha256_of(made.config).hex()) + ".json";
  auto archive = TarMaker()
                     .dir("aaa")
                     .file("aaa/VERSION", "1.0")
                     .file("aaa/json", "{}")
                     .file("aaa/layer.tar", made.layers[0])
                     .dir("bbb")
                     .file("bbb/layer.tar", made.layers[1])
                     .dir("ccc")
                     .symlink("ccc/layer.tar", "../aaa/layer.tar")
                     .file(config_name, made.config)
                     .file("manifest.json", concat(R"([{"Config":")", config_name, R"(","RepoTags":["old/app:2","old/app:latest"],"Layers":["ccc/layer.tar","bbb/layer.tar"]}])"))
                     .file("repositories", "{}")
                     .done();
  for (const auto& bytes : {archive, gzip(archive)}) {
    auto loaded = fixture_->load(bytes);
    ASSERT_TRUE(loaded.ok()) << loaded.error().text();
    EXPECT_EQ((*loaded)[0].id, sha256_of(made.config));
    EXPECT_THAT((*loaded)[0].repo_tags, UnorderedElementsAre("old/app:2", "old/app:latest"));
    EXPECT_EQ((*fixture_)->find("old/app")->id, (*loaded)[0].id);
  }
}

TEST_F(Exchange, several_images_and_multi_platform_indexes_load) {
  auto one = make_image({two_layer_a()}, true);
  auto two = make_image({two_layer_a(), two_layer_b()}, true);
  auto foreign = make_image({two_layer_b()}, true, "s390x");
  Index inner;
  inner.manifests.push_back(descriptor_of(foreign));
  inner.manifests.back().platform = Platform{"linux", "s390x", ""};
  inner.manifests.push_back(descriptor_of(two));
  inner.manifests.back().platform = Platform{"linux", "amd64", ""};
  inner.manifests.push_back(descriptor_of(one));
  inner.manifests.back().platform = Platform{"unknown", "unknown", ""};
  auto inner_text = write_index(inner);
  Index index;
  index.manifests.push_back(descriptor_of(one, "one:1"));
  Descriptor multi;
  multi.media_type = media_type::oci_index;
  multi.digest = sha256_of(inner_text);
  multi.size_bytes = inner_text.size();
  multi.annotations["io.containerd.image.name"] = "docker.io/library/two:latest";
  multi.annotations["org.opencontainers.image.ref.name"] = "latest";
  index.manifests.push_back(multi);
  TarMaker tar;
  tar.file("oci-layout", R"({"imageLayoutVersion":"1.0.0"})").file("index.json", write_index(index));
  for (const auto& image : {one, two, foreign}) {
    for (const auto& layer : image.layers) add_blob(tar, layer);
    add_blob(tar, image.config);
    add_blob(tar, image.manifest);
  }
  add_blob(tar, inner_text);
  auto loaded = fixture_->load(tar.done());
  ASSERT_TRUE(loaded.ok()) << loaded.error().text();
  ASSERT_EQ(loaded->size(), 2U);
  EXPECT_THAT((*loaded)[0].repo_tags, ElementsAre("one:1"));
  EXPECT_THAT((*loaded)[1].repo_tags, ElementsAre("two:latest"));
  EXPECT_EQ((*loaded)[1].id, sha256_of(two.config));
}

TEST_F(Exchange, archives_that_lie_are_refused_and_leave_nothing) {
  auto good = make_image({two_layer_a()}, true);
  Index index;
  index.manifests.push_back(descriptor_of(good, "x/y:1"));
  auto index_text = write_index(index);
  refuse("", "empty");
  refuse(TarMaker().file("hello", "x").done(), "neither manifest.json");
  refuse(TarMaker().file("manifest.json", "{").done(), "manifest.json");
  refuse(TarMaker().file("manifest.json", "[]").done(), "holds no image");
  refuse(TarMaker().file("manifest.json", R"([{"Config":"nope.json","Layers":[]}])").done(), "has no member \"nope.json\"");
  refuse(TarMaker().file("manifest.json", R"([{"Config":"../../../etc/shadow","Layers":[]}])").done(), "leads out");
  refuse(TarMaker().file("manifest.json", R"([{"Config":"c","Layers":["/etc/passwd"]}])").file("c", good.config).done(), "has no member");
  refuse(TarMaker().file("manifest.json", R"([{"Config":"c","Layers":["l"]}])").file("c", good.config).symlink("l", "/etc/passwd").done(), "has no member");
  refuse(TarMaker().file("manifest.json", R"([{"Config":"c","Layers":["l"]}])").file("c", good.config).symlink("l", "l").done(), "circle");
  refuse(TarMaker().file("manifest.json", R"([{"Config":"c","Layers":[]}])").file("c", good.config).done(), "diff_ids");
  refuse(TarMaker().file("manifest.json", R"([{"Config":"c","RepoTags":["Bad Name"],"Layers":["l"]}])").file("c", good.config).file("l", good.layers[0]).done(), "invalid reference format");
  refuse(TarMaker().file("manifest.json", R"([{"Config":"c","Layers":["l"]}])").file("c", good.config).file("l", two_layer_b()).done(), "content has the digest");
  refuse(TarMaker().device("manifest.json", TarType::char_device, 1, 3).done(), "files and links only");
  refuse(TarMaker().file("../../../../tmp/x", "y").done(), "leads out");
  auto wrong_blob = good;
  wrong_blob.config += " ";
  refuse(layout_of({wrong_blob}, index_text), "has no member");
  auto layout_with = [&](const std::string& member, const std::string& bytes) {
    TarMaker tar;
    tar.file("oci-layout", "{}").file("index.json", index_text);
    for (const auto& blob : {good.manifest, good.config, good.layers[0]}) {
      auto name = "blobs/sha256/" + std::string(sha256_of(blob).hex());
      tar.file(name, name == member ? bytes : blob);
    }
    return tar.done();
  };
  auto layer_name = "blobs/sha256/" + std::string(sha256_of(good.layers[0]).hex());
  auto flipped = good.layers[0];
  flipped[20] = static_cast<char>(flipped[20] ^ 1);
  refuse(layout_with(layer_name, flipped), "its content has the digest");
  refuse(layout_with(layer_name, good.layers[0] + "x"), "its descriptor says");
  auto lying = good;
  lying.config = replace_all(good.config, good.diff_ids[0].text(), sha256_of("something else").text());
  lying.manifest = replace_all(replace_all(good.manifest, sha256_of(good.config).text(), sha256_of(lying.config).text()), "", "");
  Index lying_index;
  lying_index.manifests.push_back(descriptor_of(lying));
  refuse(layout_of({lying}, write_index(lying_index)), "content has the digest");
  EXPECT_TRUE(fixture_->load(layout_of({good}, index_text)).ok()) << "the untouched one loads";
}

TEST_F(Exchange, one_bad_image_of_two_loads_neither) {
  auto good = make_image({two_layer_a()}, true);
  auto bad = make_image({two_layer_b()}, true);
  bad.config = replace_all(bad.config, bad.diff_ids[0].text(), sha256_of("x").text());
  bad.manifest = replace_all(bad.manifest, "nothing", "");
  auto archive = TarMaker()
                     .file("c1", good.config)
                     .file("l1", good.layers[0])
                     .file("c2", bad.config)
                     .file("l2", bad.layers[0])
                     .file("manifest.json", R"([{"Config":"c1","RepoTags":["good:1"],"Layers":["l1"]},{"Config":"c2","RepoTags":["bad:1"],"Layers":["l2"]}])")
                     .done();
  refuse(archive, "content has the digest");
  EXPECT_FALSE((*fixture_)->find("good:1").ok());
  // The good layer may stay for a moment; the next start clears it away.
  EXPECT_TRUE((*fixture_)->recover().ok());
  for (const auto& entry : std::filesystem::directory_iterator(fixture_->root() + "/layers")) EXPECT_EQ(entry.path().filename(), "empty");
}

TEST_F(Exchange, images_of_several_platforms_are_saved_as_one) {
  const auto tar = TarMaker().dir("bin").done();
  auto intel = fixture_->import_for("linux/amd64", tar, "intel");
  auto arm = fixture_->import_for("linux/arm/v7", tar, "arm");
  ASSERT_TRUE(intel.ok() && arm.ok());
  auto saved = fixture_->save({arm->id.text(), intel->id.text()}, "all:1");
  ASSERT_TRUE(saved.ok()) << saved.error().text();
  EXPECT_THAT(*saved, HasSubstr(R"("platform":{"architecture":"arm","os":"linux","variant":"v7"})"));
  EXPECT_THAT(*saved, HasSubstr(R"("io.containerd.image.name":"docker.io/library/all:1")"));
  Fixture other;
  auto loaded = other.load(*saved);
  ASSERT_TRUE(loaded.ok()) << loaded.error().text();
  EXPECT_EQ(loaded->size(), 1U) << "of an index an engine takes what runs here";
  auto twice = fixture_->import_for("linux/amd64", TarMaker().dir("usr").done(), "twice");
  auto refused = fixture_->save({twice->id.text(), intel->id.text()}, "all:1");
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().text(), HasSubstr("two images are for linux/amd64"));
}

TEST_F(Exchange, two_loads_of_one_archive_at_once_both_succeed) {
  auto made = make_image({two_layer_a(), two_layer_b()}, true);
  Index index;
  index.manifests.push_back(descriptor_of(made, "par/allel:1"));
  auto archive = layout_of({made}, write_index(index));
  std::vector<std::thread> threads;
  std::vector<std::string> errors(4);
  for (std::size_t i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      auto loaded = fixture_->load(archive);
      if (!loaded.ok()) errors[i] = loaded.error().text();
    });
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(errors, testing::Each(""));
  EXPECT_EQ((*fixture_)->list()->size(), 1U);
  EXPECT_EQ(fixture_->leftovers(), 0U);
}

bool have(const std::string& program) { return linux::find_program(program, "/usr/local/bin:/usr/bin:/bin").ok(); }

void run(const std::vector<std::string>& argv) {
  linux::RunOptions options;
  options.timeout_ms = 100'000;
  auto output = linux::run_program(argv, options);
  ASSERT_TRUE(output.ok()) << output.error().text();
  EXPECT_EQ(output->status.exit_code(), 0) << join(argv, " ") << "\n" << output->standard_output << output->standard_error;
}

TEST_F(Exchange, skopeo_reads_what_we_save_and_we_load_what_it_writes) {
  if (!have("skopeo")) GTEST_SKIP() << "needs skopeo";
  auto image = fixture_->import(TarMaker().dir("bin").file("bin/x", "#!/bin/sh\n", 0755).done(), "skopeo-test:1", {"CMD [\"/bin/x\"]"});
  ASSERT_TRUE(image.ok()) << image.error().text();
  auto saved = fixture_->save({"skopeo-test:1"});
  Folder scratch;
  std::ofstream(scratch.path() + "/ours.tar") << *saved;
  std::vector<std::string> copy{"skopeo", "--insecure-policy", "copy", "-q"};
  auto with = [&](const std::string& from, const std::string& to) {
    auto argv = copy;
    argv.push_back(from);
    argv.push_back(to);
    run(argv);
  };
  with("docker-archive:" + scratch.path() + "/ours.tar", "oci-archive:" + scratch.path() + "/oci.tar:docker.io/library/round:trip");
  with("oci-archive:" + scratch.path() + "/ours.tar:1", "docker-archive:" + scratch.path() + "/docker.tar:round:trip2");
  auto from_oci = fixture_->load(*linux::read_file(scratch.path() + "/oci.tar"));
  ASSERT_TRUE(from_oci.ok()) << from_oci.error().text();
  EXPECT_EQ((*from_oci)[0].diff_ids, image->diff_ids);
  EXPECT_THAT((*from_oci)[0].config.cmd, ElementsAre("/bin/x"));
  EXPECT_EQ((*fixture_)->find("round:trip")->id, (*from_oci)[0].id);
  auto from_docker = fixture_->load(*linux::read_file(scratch.path() + "/docker.tar"));
  ASSERT_TRUE(from_docker.ok()) << from_docker.error().text();
  EXPECT_EQ((*from_docker)[0].id, image->id);
  EXPECT_EQ((*fixture_)->find("round:trip2")->id, image->id);
}

}  // namespace
}  // namespace caisson::image
