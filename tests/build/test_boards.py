# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boards with a device tree: the drivers of all that stands between the processor and the disk are in a generic image.

What a board has is told by the `compatible` strings of its device tree (Documentation/devicetree/bindings/ and
arch/*/boot/dts/ of Linux); which module has a driver for one, the module's alias says. Named here are those on the way
to a disk that Debian's kernels have as modules.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from fixture_types import LockMaker

from preroot.engine import Engine, Overrides
from preroot.tree.model import KernelPlan

BOARDS = {
    ("trixie", "arm64"): {
        "Raspberry Pi 4": "brcm,bcm2711-emmc2 brcm,bcm2711-xhci",
        "Rockchip RK3399": (
            "rockchip,rk3288-dw-mshc arasan,sdhci-5.1 rockchip,rk3399-emmc-phy rockchip,rk3399-pcie-phy "
            "rockchip,rk3399-usb2phy rockchip,rk3399-typec-phy rockchip,rk3399-io-voltage-domain pwm-regulator "
            "rockchip,rk3288-pwm rockchip,rk3399-i2c silergy,syr827 fcs,fusb302"
        ),
        "Rockchip RK3588": "rockchip,rk3588-dwcmshc rockchip,rk3588-pcie3-phy rockchip,rk3588-naneng-combphy",
        "NXP i.MX8M": (
            "fsl,imx8mm-usdhc fsl,imx21-i2c rohm,bd71847 nxp,pca9450a fsl,imx8mm-ocotp fsl,imx8mq-usb-phy "
            "fsl,imx8mm-pcie-phy"
        ),
        "Allwinner A64": (
            "allwinner,sun50i-a64-mmc x-powers,axp803 allwinner,sun50i-a64-usb-phy allwinner,sun8i-h3-musb"
        ),
        "Amlogic G12": "amlogic,meson-axg-mmc amlogic,meson-g12a-usb-ctrl",
        "Qualcomm": (
            "qcom,sc8280xp-qmp-gen3x4-pcie-phy qcom,pm8550-rpmh-regulators qcom,sc8280xp-aggre1-noc "
            "qcom,sm8450-qmp-ufs-phy qcom,sdhci-msm-v5"
        ),
        "others": (
            "nvidia,tegra194-sdhci marvell,armada-ap806-sdhci ti,am654-sdhci-5.1 mediatek,mt8183-mmc "
            "renesas,rcar-gen3-sdhi"
        ),
    },
    ("forky", "armhf"): {
        "TI AM335x and OMAP": "ti,am335-sdhci ti,omap4-hsmmc ti,tps65217 ti,omap-usb2",
        "NXP i.MX6": "fsl,imx6q-usdhc fsl,imx6q-ahci fsl,pfuze100",
        "Allwinner A20": "allwinner,sun7i-a20-mmc allwinner,sun4i-a10-ahci allwinner,sun4i-a10-usb-phy",
        "others": (
            "samsung,exynos5420-dw-mshc rockchip,rk3288-dw-mshc brcm,bcm2835-sdhost nvidia,tegra124-sdhci "
            "marvell,armada-380-sdhci marvell,armada-380-ahci"
        ),
    },
    ("forky", "riscv64"): {
        "StarFive JH7110": (
            "starfive,jh7110-mmc x-powers,axp15060 starfive,jh7110-pcie-phy starfive,jh7110-usb cdns,usb3 "
            "starfive,jh7110-usb-phy starfive,jh7110-stgcrg"
        ),
        "SiFive FU740": "mmc-spi-slot sifive,spi0 sifive,i2c0 dlg,da9063",
        "others": (
            "thead,th1520-dwcmshc sophgo,cv1800b-dwcmshc allwinner,sun20i-d1-mmc spacemit,k1-sdhci spacemit,k1-i2c"
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("release", "arch"),
    [pytest.param(*key, marks=[pytest.mark.matrix] * (key[1] != "arm64")) for key in BOARDS],
)
def test_boards_find_their_disks(engine: Engine, debian_lock: LockMaker, release: str, arch: str) -> None:
    generic = ("kernel.modules=generic", 'part.base.features=["...", "mmc", "scsi"]')
    values = (f"distribution.release={release}", f"distribution.arch={arch}", *generic)
    loaded = engine.load(None, Overrides(set=values))
    locked = engine.lock(loaded, debian_lock(release, arch, *generic))
    kernel = engine.plan(loaded, locked).kernel
    assert kernel is not None
    lacking = {
        f"{board}: {compatible}"
        for board, compatibles in BOARDS[release, arch].items()
        for compatible in compatibles.split()
        if not drivers(kernel, compatible)
    }
    assert lacking == set()


def drivers(kernel: KernelPlan, compatible: str) -> list[str]:
    """Return the modules of the image that the kernel loads for a device of the device tree (of_device_modalias())."""
    modalias = f"of:NxT(null)C{compatible}"
    return [name for name, info in kernel.info.items() if any(fnmatchcase(modalias, each) for each in info.aliases)]
