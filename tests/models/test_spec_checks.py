import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from tokenpose import shapes
from tokenpose.models import spec_checks
from tokenpose.models.spec import ModelSpec

SPEC = ModelSpec(backbone="stem")


MESSAGES = {
    "image width 200 is not a multiple of stride x patch width = 4 x 3; use 192 or 204, or change patch_size": {
        "image_size": (256, 200)
    },
    "image height 250 is not a multiple of stride x patch height = 4 x 4; use 240 or 256, or change patch_size": {
        "image_size": (250, 192)
    },
    "image width 5 is not a multiple of stride x patch width = 4 x 3; use 12, or change patch_size": {
        "image_size": (256, 5)
    },
    "image_size must be two positive whole numbers (height, width); got (256, 0)": {"image_size": (256, 0)},
    "image_size must be two positive whole numbers (height, width); got (0.5, 192)": {"image_size": (0.5, 192)},
    "image_size must be (height, width); got 256": {"image_size": 256},
    "image_size must be (height, width); got None": {"image_size": None},
    "patch_size must be (height, width); got (4, 3, 3)": {"patch_size": (4, 3, 3)},
    "heatmap_size must be (height, width); got '64'": {"heatmap_size": "64"},
    "width 192 does not divide into 10 heads; 8 or 12 would fit": {"heads": 10},
    "sine positions need an even width (half for y, half for x); got 27": {"width": 27, "heads": 3},
    "depth must be a positive whole number; got 0": {"depth": 0},
    "groups must be a positive whole number; got True": {"groups": True},
    "heads must be a positive whole number; got 8.0": {"heads": 8.0},
    "mlp_ratio must be a positive number; got -1.0": {"mlp_ratio": -1.0},
    "sigma must be a positive number; got nan": {"sigma": math.nan},
    "box_padding must be a positive number; got inf": {"box_padding": math.inf},
    "head_hidden must be a positive whole number, or None for an eighth of the cells; got 0": {"head_hidden": 0},
    "head_hidden must be a positive whole number, or None for an eighth of the cells; got 3.5": {"head_hidden": 3.5},
    "std must be positive; got (0.2, 0.0, 0.2)": {"std": (0.2, 0.0, 0.2)},
    "mean must be three numbers for red, green and blue in 0..1; got (0.5, 0.5)": {"mean": (0.5, 0.5)},
    "mean must be three numbers for red, green and blue in 0..1; got 0.5": {"mean": 0.5},
    "positions must be one of sine_every_block, sine, learnable, none; got 'sine-full'": {"positions": "sine-full"},
    "attention_scale must be one of head, model; got 'width'": {"attention_scale": "width"},
    "heatmap_activation must be one of identity, softmax; got 'relu'": {"heatmap_activation": "relu"},
    "head_layers must be one of 1, 2; got 3": {"head_layers": 3},
    "crop_filter must be one of bilinear, area; got 'nearest'": {"crop_filter": "nearest"},
    "skeleton must be a Skeleton; got int": {"skeleton": 17},
    "backbone must be a name; got 3": {"backbone": 3},
    "heatmaps must have at least 2 cells a side; got (0, 0): give a larger image_size or heatmap_size": {
        "image_size": (2, 2), "patch_size": (1, 1), "backbone_stride": 1,
    },
    "image_size must be at least 2 pixels a side; got (1, 4)": {
        "image_size": (1, 4), "patch_size": (1, 1), "backbone_stride": 1,
    },
    "heatmaps must have at least 2 cells a side; got (9, 1): give a larger image_size or heatmap_size": {
        "heatmap_size": (9, 1),
    },
}  # fmt: skip


def test_every_fault_has_its_message(run_python):
    # in an interpreter without the hook, which would refuse wrong types first
    code = (
        "import json\nfrom math import inf, nan\nfrom tokenpose.models.spec import ModelSpec\n"
        "spec, said = ModelSpec(backbone='stem'), []\n"
        f"for changes in {list(MESSAGES.values())!r}:\n"
        "    try: said.append(f'no error: {spec.replace(**changes)}')\n"
        "    except (ValueError, TypeError) as error: said.append(str(error))\n"
        "print(json.dumps(said))\n"
    )
    said = json.loads(run_python(code).stdout)
    assert said == list(MESSAGES)


@settings(deadline=None)
@given(height=st.integers(1, 600), width=st.integers(1, 600), patch=st.tuples(st.integers(1, 16), st.integers(1, 16)))
def test_sizes_named_as_nearest_do_fit(height, width, patch):
    sizes = {"image_size": (4 * patch[0], 4 * patch[1]), "heatmap_size": (16, 12)}
    spec = ModelSpec(backbone="stem", patch_size=patch, **sizes)
    size = [height, width]
    for _ in range(2):  # at most one side is refused at a time
        try:
            assert spec.replace(image_size=tuple(size)).image_size == tuple(size)
            return
        except ValueError as error:
            side = 0 if "image height" in str(error) else 1
            named = int(str(error).partition("use ")[2].split(",")[0].split()[0])
            assert abs(named - size[side]) < 4 * patch[side]
            size[side] = named
    assert spec.replace(image_size=tuple(size)).image_size == tuple(size)


def test_crop_filters_are_those_of_the_functions_that_crop():
    assert spec_checks.CropFilter == shapes.CropFilter
