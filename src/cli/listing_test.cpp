#include "cli/listing.hpp"

#include <gtest/gtest.h>

#include "cli/progress.hpp"
#include "cli/request.hpp"

namespace caisson::cli {
namespace {

TEST(tables, columns_are_as_wide_as_their_widest_cell_in_characters) {
  EXPECT_EQ(align({{"A", "B"}, {"longer than ten", "x"}, {"é…", "y"}}), "A                 B\nlonger than ten   x\né…                y\n");
  EXPECT_EQ(align({{"A", "B"}}), "A         B\n");
  EXPECT_EQ(align({}), "");
}

TEST(tables, cutting_counts_characters_and_keeps_short_texts) {
  EXPECT_EQ(ellipsis("abcdef", 4), "abc…");
  EXPECT_EQ(ellipsis("abcd", 4), "abcd");
  EXPECT_EQ(ellipsis("éèêë", 3), "éè…");
  EXPECT_EQ(short_id("sha256:0123456789abcdef"), "0123456789ab");
  EXPECT_EQ(short_id("abc"), "abc");
}

TEST(documents, indentation_is_dockers) {
  EXPECT_EQ(indented_json(json::value(json::object{{"a", json::array{1, "x"}}, {"b", json::object{}}, {"c", json::array{}}})),
            "{\n    \"a\": [\n        1,\n        \"x\"\n    ],\n    \"b\": {},\n    \"c\": []\n}");
}

TEST(requests, names_and_queries_are_escaped) {
  EXPECT_EQ(object_path("images", "localhost:5000/a b:1?", "json"), "/images/localhost:5000/a%20b:1%3F/json");
  Query query;
  query.add("a", "x&y=z").add_if(false, "b").add("c", "é");
  EXPECT_EQ(query.text(), "?a=x%26y%3Dz&c=%C3%A9");
  EXPECT_EQ(Query().text(), "");
}

TEST(requests, filters_become_dockers_maps) {
  std::vector<std::string> words = {"label=a=b", "label=c", "Status = running"};
  auto filters = parse_filters(words);
  ASSERT_TRUE(filters.ok());
  EXPECT_EQ(to_text(*filters), R"({"label":{"a=b":true,"c":true},"status":{"running":true}})");
  std::vector<std::string> bad = {"nonsense"};
  EXPECT_EQ(parse_filters(bad).error().text(), "invalid filter 'nonsense' (should be name=value)");
}

TEST(progress, a_bar_shows_what_is_known) {
  EXPECT_EQ(progress_bar(50, 100, 40), "[==============>              ] 50B/100B");
  EXPECT_EQ(progress_bar(200, 100, 40).find('>'), std::string::npos) << "more than all is all";
  EXPECT_EQ(progress_bar(2000, 0, 40), "2kB");
  EXPECT_EQ(progress_bar(1, 2, 5), "1B/2B");
}

TEST(progress, documents_may_be_cut_anywhere_and_rubbish_is_told) {
  Output out(1);
  Output err(2);
  std::string stream = "{\"status\":\"a\"}\r\n{\"status\":\"Done\",\"aux\":{\"ID\":\"sha256:1\"}}";
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    ProgressPrinter printer(out, err, {.is_quiet = true, .prints_results = false});
    ASSERT_TRUE(printer.feed(std::string_view(stream).substr(0, cut)).ok());
    ASSERT_TRUE(printer.feed(std::string_view(stream).substr(cut)).ok());
    ASSERT_TRUE(printer.finish().ok());
    ASSERT_EQ(printer.result_id(), "sha256:1");
  }
  ProgressPrinter printer(out, err, {.is_quiet = true, .prints_results = false});
  EXPECT_FALSE(printer.feed("not json\n").ok());
}

}  // namespace
}  // namespace caisson::cli
