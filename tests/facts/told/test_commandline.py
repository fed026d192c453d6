# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel made of its command line, where the evidence leaves no choice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.evidence.snapshot import KernelEvidence
from staleline.facts.told.commandline import (
    UnseenError,
    mem_encrypt,
    reboot_force,
    seen_by_startup,
)

DEFAULT = "CONFIG_AMD_MEM_ENCRYPT_ACTIVE_BY_DEFAULT"
BUILTIN = {"CONFIG_CMDLINE_BOOL": "y", "CONFIG_CMDLINE": "mem_encrypt=on"}
OVERRIDE = {**BUILTIN, "CONFIG_CMDLINE_OVERRIDE": "y"}
#: As the stub and kernels of 6.12 put it together: words of bootconfig end in a blank.
BOOTCONFIG = KernelEvidence("6.12.117+deb13", "mem_encrypt=on  BOOT_IMAGE=/vmlinuz bootconfig")


def missing(kernel: KernelEvidence) -> str:
    observation = mem_encrypt(kernel)
    assert observation.value is None
    return observation.missing or ""


class TestMemEncrypt:
    @pytest.mark.parametrize("release", [None, "5.10.262", "6.1.0-44-amd64", "6.6.30", "7.3.4"])
    @pytest.mark.parametrize("choice", ["on", "off"])
    def test_said_once_it_is_the_same_to_every_reader(
        self, release: str | None, choice: str
    ) -> None:
        kernel = KernelEvidence(release, f"quiet mem_encrypt={choice}")
        assert mem_encrypt(kernel).value == choice

    @pytest.mark.parametrize(
        ("release", "config", "value"),
        [
            # Commit 29956748339a removed the default to on in 6.9 and stable releases.
            ("6.9.0", None, "off"),
            ("7.3.4", None, "off"),
            ("6.1.192", None, "off"),
            ("6.8.5", None, "off"),
            ("6.1.83", None, None),
            ("5.10.262", None, None),
            ("6.1.0-44-amd64", None, None),
            (None, None, None),
            ("5.10.262", {DEFAULT: "n"}, "off"),
            (None, {DEFAULT: "n"}, "off"),
            # On up to cbebd68f59f0 and from e814b59e6c2b on, off between.
            ("5.10.262", {DEFAULT: "y"}, None),
            ("6.2.1", {DEFAULT: "y"}, None),
            # Before 4.14 there was no SME.
            ("4.9.337", None, "off"),
        ],
    )
    def test_not_said_it_is_what_the_build_says(
        self, release: str | None, config: dict[str, str] | None, value: str | None
    ) -> None:
        assert mem_encrypt(KernelEvidence(release, "quiet", config)).value == value

    def test_a_default_that_is_not_known_names_the_option_of_the_build(self) -> None:
        assert DEFAULT in missing(KernelEvidence("5.10.262", "quiet"))
        assert DEFAULT in missing(KernelEvidence("5.10.262", "quiet", {DEFAULT: "y"}))

    @pytest.mark.parametrize(
        ("booted_by", "value"), [("efi", "on"), ("kexec", "off"), ("direct", "off"), (None, None)]
    )
    def test_quotes_are_known_to_the_efi_stub_alone(
        self, booted_by: str | None, value: str | None
    ) -> None:
        kernel = KernelEvidence("6.12.117", 'mem_encrypt="on"', booted_by=booted_by)
        assert mem_encrypt(kernel).value == value

    @pytest.mark.parametrize(
        ("booted_by", "value"), [("efi", "off"), ("kexec", "on"), ("direct", "on"), (None, None)]
    )
    def test_the_words_of_init_are_known_to_the_efi_stub_alone(
        self, booted_by: str | None, value: str | None
    ) -> None:
        kernel = KernelEvidence("6.12.117", "quiet -- mem_encrypt=on", booted_by=booted_by)
        assert mem_encrypt(kernel).value == value

    def test_up_to_6_5_startup_code_reads_it_however_it_was_booted(self) -> None:
        for booted_by in ("efi", "kexec", "direct", None):
            kernel = KernelEvidence("6.1.192", "-- mem_encrypt=on", booted_by=booted_by)
            assert mem_encrypt(kernel).value == "on"

    def test_a_distributions_release_may_have_the_later_readers(self) -> None:
        line = "-- mem_encrypt=on"
        assert mem_encrypt(KernelEvidence("6.4.0-150600.23-default", line)).value is None

    def test_from_6_9_on_the_setup_header_tells(self) -> None:
        # linux 7.3.4 arch/x86/boot/startup/sme.c:541 asks XLF_MEM_ENCRYPTION and nothing else.
        told = KernelEvidence("7.3.4", 'mem_encrypt="on"', xloadflags=0x80 | 0x3F)
        assert mem_encrypt(told).value == "on"
        assert mem_encrypt(replace(told, xloadflags=0x3F)).value == "off"
        assert mem_encrypt(replace(told, cmdline=None)).value == "on"
        # Startup code of 6.1 does not look at it.
        assert mem_encrypt(KernelEvidence("6.1.192", "mem_encrypt=on", xloadflags=0)).value == "on"

    def test_without_a_command_line_it_says_that_it_was_not_read(self) -> None:
        assert "the command line was not read" in missing(KernelEvidence("6.12.117"))


class TestOrigin:
    def test_words_that_bootconfig_may_have_put_there_leave_it_open(self) -> None:
        assert "came from the loader is not known" in missing(BOOTCONFIG)

    def test_the_keys_of_bootconfig_tell_them_apart(self) -> None:
        behind = replace(BOOTCONFIG, bootconfig=("kernel.mem_encrypt",))
        assert mem_encrypt(behind).value == "off"
        none = replace(BOOTCONFIG, bootconfig=())
        assert mem_encrypt(none).value == "on"

    def test_keys_that_are_not_those_of_the_line_leave_it_open(self) -> None:
        assert "bootconfig" in missing(replace(BOOTCONFIG, bootconfig=("kernel.quiet",)))

    def test_bootconfigs_words_of_init_stand_behind_the_dashes(self) -> None:
        kernel = KernelEvidence(
            "6.1.192", "quiet bootconfig -- mem_encrypt=on", bootconfig=("init.mem_encrypt",)
        )
        assert mem_encrypt(kernel).value is None

    def test_a_build_can_take_bootconfig_unasked_or_not_at_all(self) -> None:
        line = KernelEvidence("6.12.117", "mem_encrypt=on quiet")
        assert mem_encrypt(replace(line, config={"CONFIG_BOOT_CONFIG_FORCE": "y"})).value is None
        without = replace(BOOTCONFIG, config={"CONFIG_BOOT_CONFIG": "n"})
        assert mem_encrypt(without).value == "on"
        # bootconfig came with 5.6.
        assert mem_encrypt(replace(BOOTCONFIG, release="5.4.300")).value == "on"

    @pytest.mark.parametrize("booted_by", ["kexec", "direct"])
    def test_a_built_in_command_line_is_not_seen_by_the_decompressor(self, booted_by: str) -> None:
        kernel = KernelEvidence("6.12.117", "mem_encrypt=on quiet", BUILTIN, booted_by=booted_by)
        assert mem_encrypt(kernel).value == "off"

    @pytest.mark.parametrize("config", [BUILTIN, OVERRIDE])
    def test_it_is_seen_by_the_efi_stub(self, config: dict[str, str]) -> None:
        # linux 7.3.4 drivers/firmware/efi/libstub/x86-stub.c:957
        kernel = KernelEvidence("6.12.117", "mem_encrypt=on quiet", config, booted_by="efi")
        assert mem_encrypt(kernel).value == "on"

    def test_one_that_overrides_hides_what_the_loader_passed(self) -> None:
        kernel = KernelEvidence("6.1.192", "mem_encrypt=on", OVERRIDE)
        assert "CONFIG_CMDLINE_OVERRIDE" in missing(kernel)
        assert mem_encrypt(replace(kernel, loader_cmdline="quiet")).value == "off"

    def test_the_loaders_line_settles_it(self) -> None:
        assert mem_encrypt(replace(BOOTCONFIG, loader_cmdline="quiet bootconfig")).value == "off"

    def test_a_line_as_long_as_its_buffer_may_have_been_cut(self) -> None:
        kernel = KernelEvidence("6.12.117", "mem_encrypt=on ".ljust(2047, "x"))
        assert "may have been cut" in missing(kernel)

    def test_a_line_with_too_many_places_is_left_open(self) -> None:
        kernel = replace(BOOTCONFIG, cmdline="mem_encrypt=on " * 100 + "bootconfig")
        with pytest.raises(UnseenError, match="came from the loader"):
            seen_by_startup(kernel)
        assert mem_encrypt(kernel).value is None


class TestRebootForce:
    def test_bootconfig_and_quotes_count(self) -> None:
        assert reboot_force(replace(BOOTCONFIG, cmdline='reboot="force"  bootconfig')).value is True

    def test_the_loaders_words_alone_do_not_settle_it(self) -> None:
        line = "quiet bootconfig"
        assert reboot_force(KernelEvidence(None, line, loader_cmdline=line)).value is None
        told = KernelEvidence(None, line, loader_cmdline=line, bootconfig=())
        assert reboot_force(told).value is False

    def test_a_prefix_that_not_every_release_knows_leaves_it_open(self) -> None:
        line = "reboot=panic_force"
        assert reboot_force(KernelEvidence(None, line)).value is None
        assert reboot_force(KernelEvidence("5.10.262", line)).value is True
        assert reboot_force(KernelEvidence("4.19.1", line)).value is False

    def test_without_a_command_line_it_is_not_known(self) -> None:
        assert reboot_force(KernelEvidence()).value is None


lines = st.lists(
    st.sampled_from(
        (
            *("mem_encrypt=on", "mem_encrypt=off", "mem_encrypt=", 'mem_encrypt="on"', "--"),
            *("bootconfig", "quiet", 'a="b c"', '"', "reboot=f"),
        )
    ),
    max_size=5,
).map(" ".join)
kernels = st.builds(
    KernelEvidence,
    release=st.sampled_from((None, "5.10.262", "6.1.0-44-amd64", "6.6.30", "6.12.117")),
    cmdline=lines,
    config=st.sampled_from((None, {DEFAULT: "n"}, {DEFAULT: "y"}, BUILTIN, OVERRIDE)),
    loader_cmdline=st.none() | lines,
    bootconfig=st.sampled_from((None, (), ("kernel.mem_encrypt",))),
    booted_by=st.sampled_from((None, "efi", "kexec", "direct")),
    xloadflags=st.sampled_from((None, 0, 0x80)),
)


@given(kernels, st.sampled_from(("release", "booted_by")))
def test_less_evidence_only_makes_it_unknown(kernel: KernelEvidence, name: str) -> None:
    known, less = mem_encrypt(kernel), mem_encrypt(replace(kernel, **{name: None}))
    assert less.value in (None, known.value)


@given(kernels, st.text("abxyz0=.,", min_size=1).map(lambda text: f"z{text}"))
def test_an_unrelated_word_of_the_loader_changes_nothing(kernel: KernelEvidence, word: str) -> None:
    kernel = replace(kernel, config=None, bootconfig=None, cmdline=f"quiet {kernel.cmdline}")
    longer = replace(kernel, cmdline=f"{word} {kernel.cmdline}")
    assert mem_encrypt(longer).value == mem_encrypt(kernel).value
    assert reboot_force(longer).value == reboot_force(kernel).value
