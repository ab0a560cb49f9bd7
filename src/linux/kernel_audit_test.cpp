// The kernel's refusals as it words them.
#include "linux/kernel_audit.hpp"

#include <gtest/gtest.h>
#include <linux/audit.h>

namespace caisson::linux {
namespace {

constexpr std::uint16_t seccomp_type = AUDIT_SECCOMP;
constexpr std::uint16_t access_type = AUDIT_AVC;

TEST(KernelAudit, a_call_that_the_filter_refused) {
  auto record = parse_audit_record(seccomp_type,
                                   "audit(1795343623.820:41): auid=4294967295 uid=1879048192 gid=1879048192 ses=4294967295 subj=unconfined pid=4242 comm=\"sh\" exe=\"/bin/busybox\" sig=0 arch=c000003e syscall=165 compat=0 "
                                   "ip=0x7f3a code=0x50001");
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->by, RefusedBy::seccomp);
  EXPECT_EQ(record->pid, 4242);
  EXPECT_EQ(record->uid, 1879048192U);
  EXPECT_EQ(record->program, "sh");
  EXPECT_EQ(record->what, "mount");
  EXPECT_FALSE(record->is_fatal);
}

TEST(KernelAudit, one_that_killed_and_one_of_32_bits) {
  auto killed = parse_audit_record(seccomp_type, "audit(1.2:3): pid=7 comm=\"x\" sig=31 arch=c000003e syscall=175 compat=0 ip=0x0 code=0x80000000");
  ASSERT_TRUE(killed.has_value());
  EXPECT_EQ(killed->what, "init_module");
  EXPECT_TRUE(killed->is_fatal);
  auto old = parse_audit_record(seccomp_type, "audit(1.2:3): pid=7 comm=\"x\" sig=0 arch=40000003 syscall=21 compat=1 ip=0x0 code=0x50001");
  ASSERT_TRUE(old.has_value());
  EXPECT_EQ(old->what, "mount (32-bit)");
  EXPECT_EQ(parse_audit_record(seccomp_type, "audit(1.2:3): pid=7 comm=\"x\" arch=deadbeef syscall=9999 code=0x50001")->what, "system call 9999");
}

TEST(KernelAudit, what_was_let_through_is_no_refusal) {
  for (const char* code : {"0x7ffc0000", "0x7fff0000", "0x7fc00000"}) EXPECT_FALSE(parse_audit_record(seccomp_type, std::string("audit(1.2:3): pid=7 comm=\"x\" arch=c000003e syscall=1 code=") + code)) << code;
}

TEST(KernelAudit, profiles_of_both_kinds) {
  auto apparmor = parse_audit_record(access_type, "audit(1.2:3): apparmor=\"DENIED\" operation=\"open\" class=\"file\" profile=\"web\" name=\"/etc/shadow\" pid=12 comm=\"cat\" requested_mask=\"r\" denied_mask=\"r\" fsuid=0 ouid=0");
  ASSERT_TRUE(apparmor.has_value());
  EXPECT_EQ(apparmor->by, RefusedBy::apparmor);
  EXPECT_EQ(apparmor->uid, 0U);
  EXPECT_EQ(apparmor->what, "open /etc/shadow r");
  EXPECT_FALSE(parse_audit_record(access_type, "audit(1.2:3): apparmor=\"ALLOWED\" operation=\"open\" pid=12 comm=\"cat\""));
  auto selinux = parse_audit_record(access_type, "audit(1.2:3): avc:  denied  { read write } for  pid=9 comm=\"httpd\" name=\"index.html\" dev=\"sda1\" ino=4 scontext=a tcontext=b tclass=file permissive=0");
  ASSERT_TRUE(selinux.has_value());
  EXPECT_EQ(selinux->by, RefusedBy::selinux);
  EXPECT_EQ(selinux->what, "read write index.html (file)");
}

TEST(KernelAudit, a_name_that_would_deceive_stays_a_name) {
  // 'a" pid=1' in hexadecimal, as the kernel writes what it does not trust.
  auto record = parse_audit_record(seccomp_type, "audit(1.2:3): pid=7 comm=6122207069643D31 sig=0 arch=c000003e syscall=165 code=0x50001");
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->pid, 7);
  EXPECT_EQ(record->program, "a\" pid=1");
  record = parse_audit_record(seccomp_type, "audit(1.2:3): pid=7 comm=1B5B324A sig=0 arch=c000003e syscall=165 code=0x50001");
  EXPECT_EQ(record->program, "?[2J");
  // Another key's quotes are not this one's.
  record = parse_audit_record(access_type, "audit(1.2:3): apparmor=\"DENIED\" operation=\"mount\" name=2F612062 pid=7 comm=\"x\" srcname=\"none\"");
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->what, "mount /a b");
}

TEST(KernelAudit, other_and_broken_records_are_passed_over) {
  for (const char* text : {"", "audit(", "audit(1.2:3): pid=", "audit(1.2:3): pid=x arch=c000003e syscall=1 code=0x50001", "audit(1.2:3): pid=7 syscall=1", "audit(1.2:3): pid=-7 arch=c000003e syscall=1 code=0x50001"})
    EXPECT_FALSE(parse_audit_record(seccomp_type, text)) << text;
  EXPECT_FALSE(parse_audit_record(1300, "audit(1.2:3): arch=c000003e syscall=165 pid=7"));
}

}  // namespace
}  // namespace caisson::linux
