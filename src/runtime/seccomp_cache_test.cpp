// Tests of the cache of compiled seccomp programs: what it gives back, and what it does not believe.
#include "runtime/seccomp_cache.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linux/seccomp_evaluate.hpp"
#include "runtime/plan.hpp"
#include "runtime/test_support.hpp"

namespace caisson::runtime {
namespace {

using testing::must;
using testing::TestFolder;

constexpr std::string_view profile =
    R"({"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","write","newest_call_ever"],"action":"SCMP_ACT_ALLOW"}]})";

std::string config_with(std::string_view seccomp, std::string_view key = "seccomp") {
  return concat(
      R"({"ociVersion":"1.0.2","root":{"path":"rootfs"},"process":{"args":["/bin/true"],"cwd":"/","user":{"uid":0,"gid":0}},)",
      R"("linux":{"namespaces":[{"type":"mount"}],")", key, R"(":)", seccomp, "}}");
}

class SeccompCacheTest : public ::testing::Test {
 protected:
  SeccompCacheTest() : cache_(path_) {}

  linux::SeccompProgram compiled() { return must(compile_profile(must(parse_seccomp_profile(profile)))); }
  /// The one file there is.
  std::string entry() {
    auto entries = must(linux::list_dir(path_));
    EXPECT_EQ(entries.size(), 1U);
    return entries.empty() ? std::string() : concat(path_, "/", entries[0].name);
  }

  TestFolder folder_;
  std::string path_ = folder_ / "state/.cache/seccomp";
  SeccompCache cache_;
};

bool is_same(const linux::SeccompProgram& a, const linux::SeccompProgram& b) { return encode(a) == encode(b); }

TEST_F(SeccompCacheTest, a_kept_program_is_found_by_its_text_and_only_by_that) {
  EXPECT_FALSE(cache_.find(profile));
  cache_.keep(profile, compiled());
  auto found = cache_.find(profile);
  ASSERT_TRUE(found);
  EXPECT_TRUE(is_same(*found, compiled()));
  EXPECT_THAT(found->warnings, ::testing::ElementsAre(::testing::HasSubstr("newest_call_ever")));
  EXPECT_FALSE(cache_.find(concat(profile, " ")));
}

TEST_F(SeccompCacheTest, every_damaged_byte_and_every_cut_makes_an_entry_absent) {
  cache_.keep(profile, compiled());
  const std::string path = entry();
  const std::string whole = must(linux::read_file(path));
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    must(linux::write_file(path, damaged));
    EXPECT_FALSE(cache_.find(profile)) << "byte " << i;
  }
  for (std::size_t size = 0; size < whole.size(); ++size) {
    must(linux::write_file(path, whole.substr(0, size)));
    EXPECT_FALSE(cache_.find(profile)) << "cut to " << size;
  }
  must(linux::write_file(path, whole + "x"));
  EXPECT_FALSE(cache_.find(profile));
  cache_.keep(profile, compiled());
  EXPECT_TRUE(cache_.find(profile)) << "a damaged entry is made anew";
}

TEST_F(SeccompCacheTest, a_program_of_another_shape_is_not_believed_whatever_its_checksum_says) {
  auto refused = [&](auto change) {
    linux::SeccompProgram program = compiled();
    change(program);
    cache_.keep(profile, program);
    return !cache_.find(profile);
  };
  EXPECT_FALSE(refused([](auto&) {}));
  EXPECT_TRUE(refused([](auto& p) { p.filter.clear(); }));
  EXPECT_TRUE(refused([](auto& p) {
    p.filter.pop_back();
    p.filter.back().code = BPF_JMP | BPF_JA;
  }));
  EXPECT_TRUE(refused([](auto& p) { p.filter.front().code = BPF_ST; }));
  EXPECT_TRUE(refused([](auto& p) { p.filter.front().k = 64; }));
  EXPECT_TRUE(refused([](auto& p) { p.filter.front() = sock_filter{BPF_JMP | BPF_K | BPF_JEQ, 255, 0, 0}; }));
  EXPECT_TRUE(refused([](auto& p) { p.filter.assign(5000, sock_filter{BPF_RET | BPF_K, 0, 0, 0x7fff0000}); }));
  EXPECT_TRUE(refused([](auto& p) { p.flags = 1U << 30U; }));
  EXPECT_TRUE(refused([](auto& p) { p.flags = 8; })) << "NEW_LISTENER without a listener";
}

TEST_F(SeccompCacheTest, what_others_may_write_or_own_is_not_believed) {
  cache_.keep(profile, compiled());
  const std::string path = entry();
  auto with_mode = [&](const std::string& of, mode_t mode, mode_t back) {
    must(linux::fchmodat(AT_FDCWD, of, mode));
    const bool found = cache_.find(profile).has_value();
    must(linux::fchmodat(AT_FDCWD, of, back));
    return found;
  };
  EXPECT_TRUE(with_mode(path, 0644, 0600));
  EXPECT_FALSE(with_mode(path, 0620, 0600));
  EXPECT_FALSE(with_mode(path, 0602, 0600));
  EXPECT_FALSE(with_mode(path_, 0770, 0700));
  EXPECT_FALSE(with_mode(path_, 0707, 0700));
  const std::string moved = folder_ / "moved";
  must(linux::rename(path, moved));
  must(linux::symlinkat(moved, AT_FDCWD, path));
  EXPECT_FALSE(cache_.find(profile)) << "a link";
  must(linux::unlink(path));
  must(linux::mknodat(AT_FDCWD, path, S_IFIFO | 0600, 0));
  EXPECT_FALSE(cache_.find(profile)) << "a fifo, and nobody waits for its writer";
  must(linux::unlink(path));
  must(linux::rename(moved, path));
  EXPECT_TRUE(cache_.find(profile));
  if (linux::geteuid() != 0) GTEST_SKIP() << "giving files away needs root";
  must(linux::fchownat(AT_FDCWD, path, 1000, 1000, 0));
  EXPECT_FALSE(cache_.find(profile)) << "another owner's file";
  must(linux::fchownat(AT_FDCWD, path, 0, 0, 0));
  must(linux::fchownat(AT_FDCWD, path_, 1000, 1000, 0));
  EXPECT_FALSE(cache_.find(profile)) << "another owner's folder";
}

TEST_F(SeccompCacheTest, nothing_is_written_into_a_folder_that_others_may_write) {
  must(linux::make_dirs(path_, 0700));
  must(linux::fchmodat(AT_FDCWD, path_, 0777));
  cache_.keep(profile, compiled());
  EXPECT_TRUE(must(linux::list_dir(path_)).empty());
}

TEST_F(SeccompCacheTest, the_folder_does_not_grow_without_end) {
  const auto program = compiled();
  for (int i = 0; i < 200; ++i) cache_.keep(concat(profile, i), program);
  EXPECT_LE(must(linux::list_dir(path_)).size(), 64U);
  EXPECT_TRUE(cache_.find(concat(profile, 199))) << "the newest stays";
}

TEST_F(SeccompCacheTest, a_configuration_is_the_same_with_and_without_the_cache) {
  const std::string config = config_with(profile);
  auto first = must(parse_config(config, cache_));
  EXPECT_TRUE(first.spec.seccomp) << "compiled from the specification";
  auto second = must(parse_config(config, cache_));
  EXPECT_FALSE(second.spec.seccomp) << "not even parsed";
  ASSERT_TRUE(first.filter && second.filter);
  EXPECT_TRUE(is_same(*first.filter, *second.filter));
  first.spec.seccomp.reset();
  EXPECT_EQ(to_text(to_json(first.spec)), to_text(to_json(second.spec)));
  const auto read_call = *linux::syscall_number(linux::native_architecture(), "read");
  const auto verdict = linux::evaluate_seccomp(second.filter->filter, linux::native_architecture(), read_call);
  EXPECT_EQ(verdict.action, linux::SeccompAction::allow);
}

TEST_F(SeccompCacheTest, profiles_that_say_more_than_a_program_holds_are_not_kept) {
  const std::string with_path = std::string(profile).insert(1, R"("listenerPath":"/run/agent.sock",)");
  ignore(parse_config(config_with(with_path), cache_));
  EXPECT_FALSE(cache_.find(with_path));
  linux::SeccompProgram notifying = compiled();
  notifying.needs_listener = true;
  cache_.keep(profile, notifying);
  EXPECT_FALSE(cache_.find(profile));
}

TEST_F(SeccompCacheTest, annotations_that_concern_the_profile_leave_the_profile_in_the_specification) {
  std::string config = config_with(profile);
  ignore(parse_config(config, cache_));
  ASSERT_TRUE(cache_.find(profile));
  config.insert(1, R"("annotations":{"run.oci.seccomp_fail_unknown_syscall":"1"},)");
  EXPECT_TRUE(must(parse_config(config, cache_)).spec.seccomp);
}

TEST_F(SeccompCacheTest, a_broken_profile_is_told_as_without_a_cache_each_time) {
  for (int round = 0; round < 2; ++round) {
    auto broken = parse_config(config_with(R"({"defaultAction":"SCMP_ACT_MAYBE"})"), cache_);
    ASSERT_FALSE(broken.ok());
    EXPECT_THAT(broken.error().text(), ::testing::HasSubstr("linux.seccomp.defaultAction"));
  }
  EXPECT_FALSE(linux::exists(path_).value_or(true));
}

TEST_F(SeccompCacheTest, a_key_with_an_escape_or_twice_is_left_to_the_parser) {
  auto escaped = must(parse_config(config_with(profile, "sec\\u0063omp"), cache_));
  EXPECT_TRUE(escaped.spec.seccomp);
  ASSERT_TRUE(escaped.filter);
  const std::string twice = config_with(concat(R"({"defaultAction":"SCMP_ACT_ALLOW"},"seccomp":)", profile));
  auto last = must(parse_config(twice, cache_));
  ASSERT_TRUE(last.filter);
  EXPECT_TRUE(is_same(*last.filter, compiled())) << "of two members the last one counts, as for every other field";
  EXPECT_FALSE(linux::exists(path_).value_or(true));
}

TEST(SeccompCompilerVersion, a_compiler_that_gives_another_program_has_another_version) {
  // When this fails, raise seccomp_compiler_version and write the new pair here: programs of the old compiler lie in caches.
  auto spec = must(parse_seccomp_profile(
      R"({"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"],"syscalls":[)"
      R"({"names":["read","write","openat","execve","rt_sigaction","ioctl","mseal","socketcall"],"action":"SCMP_ACT_ALLOW"},)"
      R"({"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]},)"
      R"({"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]},)"
      R"({"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":97,"args":[{"index":0,"value":40,"op":"SCMP_CMP_NE"},)"
      R"({"index":1,"value":4294967296,"op":"SCMP_CMP_LT"},{"index":2,"value":3,"op":"SCMP_CMP_GE"}]},)"
      R"({"names":["futex"],"action":"SCMP_ACT_LOG","args":[{"index":1,"value":1,"op":"SCMP_CMP_GT"},{"index":1,"value":0,"op":"SCMP_CMP_LE"}]}]})"));
  if (linux::native_architecture() != linux::SyscallArch::x86_64) GTEST_SKIP() << "the program is of x86_64";
  const std::string bytes = encode(must(compile_profile(spec)).filter);
  std::uint64_t hash = 0xcbf29ce484222325U;  // FNV-1a
  for (char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  EXPECT_EQ(concat(linux::seccomp_compiler_version, " ", hash), "3 5198285375456055339");
}

}  // namespace
}  // namespace caisson::runtime
