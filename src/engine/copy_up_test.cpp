// What a new volume begins with: an image's files, however deep they lie, on the small stack of a request.
#include "engine/copy_up.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include "engine/fake_parts.hpp"

namespace caisson::engine {
namespace {

class CopyUp : public testing::Test {
 protected:
  void dig(const std::string& layer, int depth) {
    std::string path = folder.path() + "/" + layer + "/v";
    for (int i = 0; i < depth; ++i) path += "/d";
    ASSERT_TRUE(linux::make_dirs(path, 0751).ok());
    ASSERT_TRUE(linux::write_file(path + "/file", layer).ok());
  }
  /// On 256 KiB, as wire/server.cpp gives them; the sanitizers get more there too.
  Result<bool> copy(std::vector<std::string> layers) {
    for (auto& layer : layers) layer = folder.path() + "/" + layer;
    EXPECT_TRUE(linux::make_dirs(folder.path() + "/target", 0755).ok());
    auto target = linux::open(folder.path() + "/target", O_RDONLY | O_DIRECTORY);
    EXPECT_TRUE(target.ok());
    Result<bool> outcome = false;
    auto work = [&] { outcome = copy_from_layers(layers, "/v", target->get()); };
    pthread_attr_t attributes;
    EXPECT_EQ(::pthread_attr_init(&attributes), 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
    EXPECT_EQ(::pthread_attr_setstacksize(&attributes, 256 << 10), 0);
#endif
    pthread_t thread{};
    EXPECT_EQ(::pthread_create(&thread, &attributes, [](void* body) -> void* { (*static_cast<decltype(work)*>(body))(); return nullptr; }, &work), 0);
    ::pthread_join(thread, nullptr);
    ::pthread_attr_destroy(&attributes);
    return outcome;
  }
  [[nodiscard]] std::string deepest(int depth) const {
    std::string path = folder.path() + "/target";
    for (int i = 0; i < depth; ++i) path += "/d";
    return path;
  }
  fake::TempFolder folder;
};

TEST_F(CopyUp, a_deep_folder_is_copied_with_its_modes_and_an_upper_layer_wins) {
  dig("lower", 128);
  dig("upper", 128);
  auto copied = copy({"upper", "lower"});
  ASSERT_TRUE(copied.ok()) << copied.error().text();
  EXPECT_TRUE(*copied);
  EXPECT_EQ(linux::read_file(deepest(128) + "/file").value_or(""), "upper");
  EXPECT_EQ(linux::stat(deepest(127))->st_mode & 0777U, linux::stat(folder.path() + "/lower/v/d")->st_mode & 0777U);
}

TEST_F(CopyUp, one_that_is_too_deep_is_refused_by_name) {
  dig("lower", 129);
  auto refused = copy({"lower"});
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().text(), testing::HasSubstr("folders are nested more than 128 deep"));
}

}  // namespace
}  // namespace caisson::engine
