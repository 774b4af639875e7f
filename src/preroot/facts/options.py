# SPDX-License-Identifier: LGPL-2.1-or-later
"""What options of a kernel's configuration say: whether they are fulfilled, and which module an option is for. Pure.

Source of the table: the kernel's Makefiles (`obj-$(CONFIG_EXT4_FS) += ext4.o`), 6.1 to 7.2. It has what features of
preroot name; a test compares it with real kernels, whose `modules.builtin` and modules directories have to agree.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

#: option (without CONFIG_) → the module that it makes when it is `m`
_MODULES = {
    # file systems
    "AUTOFS_FS": "autofs4", "BTRFS_FS": "btrfs", "CIFS": "cifs", "EFIVAR_FS": "efivarfs", "EROFS_FS": "erofs",
    "EXFAT_FS": "exfat", "EXT4_FS": "ext4", "F2FS_FS": "f2fs", "FAT_FS": "fat", "FUSE_FS": "fuse",
    "ISO9660_FS": "isofs", "NET_9P": "9pnet", "NET_9P_VIRTIO": "9pnet_virtio", "9P_FS": "9p", "NFS_FS": "nfs",
    "NFS_V3": "nfsv3", "NFS_V4": "nfsv4", "NTFS3_FS": "ntfs3", "OVERLAY_FS": "overlay", "SQUASHFS": "squashfs",
    "UDF_FS": "udf", "VFAT_FS": "vfat", "VIRTIO_FS": "virtiofs", "XFS_FS": "xfs",
    "NLS_ASCII": "nls_ascii", "NLS_CODEPAGE_437": "nls_cp437", "NLS_ISO8859_1": "nls_iso8859_1",
    "NLS_UTF8": "nls_utf8", "BINFMT_MISC": "binfmt_misc", "BINFMT_SCRIPT": "binfmt_script",
    # disks and their buses
    "ATA": "libata", "ATA_PIIX": "ata_piix", "BLK_DEV_LOOP": "loop", "BLK_DEV_NBD": "nbd", "BLK_DEV_NVME": "nvme",
    "BLK_DEV_SD": "sd_mod", "BLK_DEV_SR": "sr_mod", "CHR_DEV_SG": "sg", "MMC": "mmc_core", "MMC_BLOCK": "mmc_block",
    "MMC_SDHCI": "sdhci", "MMC_SDHCI_ACPI": "sdhci_acpi", "MMC_SDHCI_PCI": "sdhci_pci", "NVME_CORE": "nvme_core",
    "NVME_FABRICS": "nvme_fabrics", "NVME_TCP": "nvme_tcp", "SATA_AHCI": "ahci", "SCSI": "scsi_mod",
    "SCSI_ISCSI_ATTRS": "scsi_transport_iscsi", "ISCSI_TCP": "iscsi_tcp", "ISCSI_BOOT_SYSFS": "iscsi_boot_sysfs",
    "ISCSI_IBFT": "iscsi_ibft", "USB": "usbcore", "USB_STORAGE": "usb_storage", "USB_UAS": "uas",
    "USB_EHCI_HCD": "ehci_hcd", "USB_EHCI_PCI": "ehci_pci", "USB_OHCI_HCD": "ohci_hcd", "USB_UHCI_HCD": "uhci_hcd",
    "USB_XHCI_HCD": "xhci_hcd", "USB_XHCI_PCI": "xhci_pci", "VMD": "vmd", "ZRAM": "zram",
    # virtual machines
    "FW_CFG_SYSFS": "qemu_fw_cfg", "DMI_SYSFS": "dmi_sysfs", "HW_RANDOM_VIRTIO": "virtio_rng", "HYPERV": "hv_vmbus",
    "HYPERV_KEYBOARD": "hyperv_keyboard", "HYPERV_NET": "hv_netvsc", "HYPERV_STORAGE": "hv_storvsc",
    "SCSI_VIRTIO": "virtio_scsi", "VIRTIO_BLK": "virtio_blk", "VIRTIO_CONSOLE": "virtio_console",
    "VIRTIO_MMIO": "virtio_mmio", "VIRTIO_NET": "virtio_net", "VIRTIO_PCI": "virtio_pci", "VMWARE_PVSCSI": "vmw_pvscsi",
    "VMXNET3": "vmxnet3", "XEN_BLKDEV_FRONTEND": "xen_blkfront", "XEN_NETDEV_FRONTEND": "xen_netfront",
    "XEN_SCSI_FRONTEND": "xen_scsifront",
    # mapped and joined devices
    "BLK_DEV_DM": "dm_mod", "BLK_DEV_MD": "md_mod", "DM_CACHE": "dm_cache", "DM_CRYPT": "dm_crypt",
    "DM_INTEGRITY": "dm_integrity", "DM_MIRROR": "dm_mirror", "DM_MULTIPATH": "dm_multipath", "DM_RAID": "dm_raid",
    "DM_SNAPSHOT": "dm_snapshot", "DM_THIN_PROVISIONING": "dm_thin_pool", "DM_VERITY": "dm_verity",
    "DM_WRITECACHE": "dm_writecache", "DM_ZERO": "dm_zero", "MD_RAID0": "raid0", "MD_RAID1": "raid1",
    "MD_RAID10": "raid10", "MD_RAID456": "raid456",
    # keys, input, network
    "CRYPTO_USER_API_HASH": "algif_hash", "CRYPTO_USER_API_SKCIPHER": "algif_skcipher", "CRYPTO_XTS": "xts",
    "HID": "hid", "HID_GENERIC": "hid_generic", "KEYBOARD_ATKBD": "atkbd", "PACKET": "af_packet",
    "SERIO_I8042": "i8042", "TCG_CRB": "tpm_crb", "TCG_TIS": "tpm_tis", "TCG_TPM": "tpm", "USB_HID": "usbhid",
    "VSOCKETS": "vsock",
}  # fmt: skip


def known_modules() -> Mapping[str, str]:
    """Return option → module, of those that are known."""
    return _MODULES


def builtin_by_config(config: Mapping[str, str]) -> tuple[str, ...]:
    """Return the modules that a configuration builds in, of those whose option is known, sorted."""
    return tuple(sorted(module for option, module in _MODULES.items() if config.get(option) == "y"))


def option_of(module: str) -> str:
    """Return the option (without CONFIG_) that makes a module, '' where that is not known."""
    return next((option for option, name in _MODULES.items() if name == module), "")


def refuses_unsigned(config: Mapping[str, str]) -> tuple[str, bool]:
    """Return the option by which a kernel refuses modules without a signature, and whether it always does; ('', False)
    for none. Of those that do it on some machines only: Secure Boot (a patch that distributions have).

    Sources: kernel/module/Kconfig, security/lockdown/Kconfig.
    """
    for option in ("MODULE_SIG_FORCE", "LOCK_DOWN_KERNEL_FORCE_INTEGRITY", "LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY"):
        if config.get(option) == "y":
            return option, True
    return ("LOCK_DOWN_IN_EFI_SECURE_BOOT", False) if config.get("LOCK_DOWN_IN_EFI_SECURE_BOOT") == "y" else ("", False)


def unfulfilled(config: Mapping[str, str], wish: str, modules: Collection[str]) -> str:
    """Return why a configuration does not fulfil a wish, '' where it does.

    A wish is `NAME`, `NAME=VALUE` (exactly that; `NAME=n` for one that must not be set), or several of these with `|`
    between them, of which one is enough. An option that is `m` counts only if its module is among `modules`: what
    nobody can load is not there. Where the module is not known, that can't be said, and it does not count.
    """
    reasons = []
    for item in wish.split("|"):
        name, equals, value = item.partition("=")
        got = config.get(name, "n")
        if got == value if equals else got == "y":
            return ""
        if equals:
            reasons.append(f"CONFIG_{name} is {got or 'empty'}, not {value or 'empty'}")
        elif got != "m":
            reasons.append(f"CONFIG_{name} is not set")
        elif _MODULES.get(name, "") in modules:
            return ""
        else:
            module = f"its module {_MODULES[name]}" if name in _MODULES else "a module of which the name is not known"
            reasons.append(f"CONFIG_{name} is m, and {module} is not in the image")
    return " and ".join(reasons)
