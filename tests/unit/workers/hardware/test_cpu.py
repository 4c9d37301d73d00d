"""Processors, memory and control groups, from /proc and /sys as they printed them."""

from pathlib import Path

import pytest

from workers.hardware.cgroup import cgroup_files, parse_cgroup
from workers.hardware.cpu import parse_allowed, parse_linux, parse_meminfo, processor_name, vector_extensions
from workers.hardware.recording import read_recording

RECORDINGS = Path(__file__).parent / "recordings"
GIB = 2**30


def outputs(name: str) -> dict[str, str]:
    return {one.name: one.output for one in read_recording(RECORDINGS / name).readings}


def test_a_container_on_an_epyc_has_what_its_group_allows() -> None:
    """8 GiB of 23.5, one and a half processors; page cache that can be dropped is free."""
    found = parse_linux(outputs("epyc-container"))
    assert (found.kind, found.name, found.cores) == ("cpu", "AMD EPYC", 2)
    assert found.memory_bytes == 8 * GIB
    assert found.usable_memory_bytes == 7 * GIB
    assert found.details["cpu_quota"] == "1.5"
    assert found.details["vector"].startswith("avx f16c fma avx2 avx512f")


def test_the_same_machine_without_limits() -> None:
    """Then the kernel's own figures hold."""
    said = outputs("epyc-container") | {"cgroup": ""}
    found = parse_linux(said)
    assert found.memory_bytes == 24684084 * 1024
    assert found.usable_memory_bytes == 24141868 * 1024


def test_an_arm_core_is_named_by_its_part() -> None:
    """The kernel prints no model name there."""
    said = outputs("arm-neoverse-n1")
    found = parse_linux(said)
    assert (found.name, found.cores) == ("Neoverse-N1", 2)
    assert found.details["vector"] == "asimd asimdhp asimddp"
    unknown = said["cpuinfo"].replace("0xd0c", "0xfff")
    assert processor_name(unknown) == "ARM implementer 0x41 part 0xfff"


def test_an_extension_that_only_some_processors_have_is_not_counted_on() -> None:
    """Big and little cores differ; a kernel may run on any."""
    text = "processor : 0\nFeatures : fp asimd asimddp sve\n\nprocessor : 1\nFeatures : fp asimd asimddp\n"
    assert vector_extensions(text) == ("asimd", "asimddp")


@pytest.mark.parametrize(("text", "count"), [("0-1", 2), ("0,2-3,8", 4), ("5", 1)])
def test_allowed_processors_are_counted(text: str, count: int) -> None:
    """A process pinned to some has only those."""
    assert len(parse_allowed(f"Name:\tx\nCpus_allowed_list:\t{text}\n")) == count


def test_an_old_kernel_without_memavailable() -> None:
    """MemFree is the least that can be taken."""
    assert parse_meminfo("MemTotal:       16307000 kB\nMemFree:  1000 kB\n") == (16307000 * 1024, 1000 * 1024)


def test_the_limits_of_groups_around_count_as_well() -> None:
    """The tightest one holds, wherever it was set."""
    text = (
        "==> /sys/fs/cgroup/a/b/memory.max <==\n4294967296\n==> /sys/fs/cgroup/a/b/memory.current <==\n0\n"
        "==> /sys/fs/cgroup/a/memory.max <==\n2147483648\n==> /sys/fs/cgroup/a/memory.current <==\n1073741824\n"
    )
    assert (parse_cgroup(text).memory_bytes, parse_cgroup(text).free_bytes) == (2 * GIB, GIB)


def test_version_1_limits_and_its_way_of_saying_none() -> None:
    """A quota of -1 and 2^63 - 4096 bytes are no limits."""
    head = "==> /sys/fs/cgroup/memory/docker/memory"
    cpu = "==> /sys/fs/cgroup/cpu,cpuacct/docker/cpu"
    free = (
        f"{head}.limit_in_bytes <==\n9223372036854771712\n{cpu}.cfs_quota_us <==\n-1\n{cpu}.cfs_period_us <==\n100000\n"
    )
    assert parse_cgroup(free) == parse_cgroup("")
    tight = (
        f"{head}.limit_in_bytes <==\n1073741824\n{head}.usage_in_bytes <==\n805306368\n"
        f"{head}.stat <==\ncache 536870912\ntotal_inactive_file 536870912\n"
        f"{cpu}.cfs_quota_us <==\n250000\n{cpu}.cfs_period_us <==\n100000\n"
    )
    limits = parse_cgroup(tight)
    assert (limits.memory_bytes, limits.free_bytes, limits.cpus) == (GIB, 3 * GIB // 4, 2.5)


def test_where_the_limits_are_looked_for() -> None:
    """The group itself, all around it, and the root that a container sees; every controller where it is mounted."""
    two = cgroup_files("0::/system.slice/worker.service\n")
    assert two[0] == "/sys/fs/cgroup/system.slice/worker.service/memory.max"
    assert "/sys/fs/cgroup/system.slice/cpu.max" in two
    assert "/sys/fs/cgroup/memory.max" in two
    one = cgroup_files("5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n1:name=systemd:/docker/1\n")
    assert "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes" in one
    assert "/sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us" in one
    assert "/sys/fs/cgroup/cpu/cpu.cfs_quota_us" in one
    assert cgroup_files("nonsense\n\n::\n") is not None


@pytest.mark.parametrize("garbage", ["", "no colon", "==> x <==\n", "\x00\xff", "processor"])
def test_garbage_is_nothing_said(garbage: str) -> None:
    """A parser never raises over what a file holds."""
    found = parse_linux({"cpuinfo": garbage, "meminfo": garbage, "status": garbage, "cgroup": garbage})
    assert (found.kind, found.memory_bytes, found.cores) == ("cpu", 0, 0)


@pytest.mark.parametrize(
    ("stat", "free_gib"),
    [
        ("inactive_file 536870912\nactive_file 7516192768\n", 7.9),  # 7.0 active, 0.5 inactive
        ("inactive_file 7516192768\nactive_file 536870912\n", 7.9),
        ("inactive_file 0\nactive_file 0\nslab_reclaimable 1073741824\n", 1.4),
        ("inactive_file 536870912\nactive_file 7516192768\nshmem 7516192768\n", 7.9),
        ("anon 8053063680\ninactive_anon 8053063680\n", 0.4),
        ("", 0.4),
    ],
)
def test_page_cache_is_free_however_often_it_was_read(stat: str, free_gib: float) -> None:
    """Of 8 GiB, 7.6 in use: what of it is cache can be dropped, active or not; files in memory and programs cannot."""
    text = (
        f"==> /sys/fs/cgroup/memory.max <==\n{8 * GIB}\n==> /sys/fs/cgroup/memory.current <==\n{int(7.6 * GIB)}\n"
        f"==> /sys/fs/cgroup/memory.stat <==\n{stat}"
    )
    assert parse_cgroup(text).free_bytes / GIB == pytest.approx(free_gib, abs=0.11)


def test_a_group_is_slowed_before_it_is_stopped() -> None:
    """memory.high is the limit that counts where it is the lower."""
    text = (
        f"==> /sys/fs/cgroup/memory.max <==\n{8 * GIB}\n==> /sys/fs/cgroup/memory.high <==\n{6 * GIB}\n"
        "==> /sys/fs/cgroup/memory.current <==\n0\n"
    )
    assert parse_cgroup(text).memory_bytes == 6 * GIB
    assert parse_cgroup(text.replace(str(6 * GIB), "max")).memory_bytes == 8 * GIB


def test_a_container_that_read_much_on_an_h100_machine() -> None:
    """128 GiB, 7.4 in use, of them 2.1 page cache; 5.3 GiB of files in memory stay."""
    found = parse_linux(outputs("nvidia-h100-sxm-container"))
    assert found.memory_bytes == parse_meminfo(outputs("nvidia-h100-sxm-container")["meminfo"])[0]
    limits = parse_cgroup(outputs("nvidia-h100-sxm-container")["cgroup"])
    assert limits.free_bytes == 137438953472 - (7985549312 - 1997852672 - 183877632 - 31995272)
    assert found.details["physical_cores"] == "16"


@pytest.mark.parametrize(("allowed", "cores"), [("0-3", "2"), ("0,2", "2"), ("0-1", "1"), ("3", "1")])
def test_cores_are_counted_once_and_only_those_one_may_use(allowed: str, cores: str) -> None:
    """Two cores of two threads each."""
    cpu = "\n\n".join(f"processor : {n}\nphysical id : 0\ncore id : {n // 2}\nmodel name : x" for n in range(4))
    found = parse_linux({"cpuinfo": cpu, "status": f"Cpus_allowed_list:\t{allowed}\n"})
    assert found.details["physical_cores"] == cores
