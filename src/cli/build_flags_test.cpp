// Flags of builds that are a language of their own: --annotation and --call, and what is printed of the latter.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/build_annotations.hpp"
#include "cli/build_call.hpp"

namespace caisson::cli {
namespace {

using testing::HasSubstr;

TEST(annotations, levels_and_platforms_stand_ahead) {
  const auto parsed = parse_annotations({"a=1", "index:b=2", "index,manifest-descriptor:c=x:y=z", "manifest[linux/arm64]:d=4", "index-descriptor:e=", "org.x/y=a:b"});
  ASSERT_TRUE(parsed.ok()) << parsed.error().text();
  EXPECT_EQ(to_text(manifest_annotations(*parsed, "linux/amd64")), R"({"a":"1","org.x/y":"a:b"})");
  EXPECT_EQ(to_text(manifest_annotations(*parsed, "linux/arm64")), R"({"a":"1","d":"4","org.x/y":"a:b"})");
  EXPECT_EQ(to_text(index_annotations(*parsed)), R"({"index":{"b":"2","c":"x:y=z"},"manifests":{"c":"x:y=z"},"entry":{"e":""}})");
  EXPECT_TRUE(index_annotations({}).empty());
}

TEST(annotations, what_is_none_is_named) {
  for (const auto& [text, words] : {std::pair("a", "want key=value"), std::pair("=b", "want key=value"), std::pair("index:=b", "want key=value"), std::pair("image:a=b", "\"image\" is none of manifest"),
                                    std::pair("index[linux/amd64]:a=b", "only a manifest is for one platform"), std::pair("manifest[linux:a=b", "] is missing"), std::pair("manifest[linux/a/b/c]:a=b", "manifest[linux/a/b/c]:a=b")}) {
    const auto parsed = parse_annotations({text});
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_THAT(parsed.error().text(), HasSubstr(words));
    EXPECT_THAT(parsed.error().text(), HasSubstr("--annotation"));
  }
}

}  // namespace
}  // namespace caisson::cli
