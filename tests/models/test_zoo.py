import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.zoo import (
    Architecture,
    Tag,
    architectures,
    find_tag,
    list_models,
    published_batch_size,
    register_model,
)
from tokenpose.skeletons import Skeleton

NAMES = [
    "tokenpose_t.coco_256x192", "tokenpose_t.lsp_256x192",
    "tokenpose_s_v1.coco_256x192", "tokenpose_s_v1.lsp_256x192",
    "tokenpose_s_v2.coco_256x192",
    "tokenpose_b.coco_256x192", "tokenpose_b.lsp_256x192",
    "tokenpose_l_d6.coco_256x192", "tokenpose_l_d6.mpii_256x256", "tokenpose_l_d6.lsp_256x192",
    "tokenpose_l_d24.coco_256x192", "tokenpose_l_d24.coco_384x288",
]  # fmt: skip

# TOKENPOSE.md section 2: million parameters with the stored sine table, billion multiply-adds
PUBLISHED = {
    "tokenpose_t.coco_256x192": (5.87, 1.60),
    "tokenpose_s_v1.coco_256x192": (6.67, 2.73),
    "tokenpose_s_v2.coco_256x192": (6.37, 7.49),
    "tokenpose_b.coco_256x192": (13.51, 6.28),
    "tokenpose_l_d6.mpii_256x256": (21.49, 12.89),
    "tokenpose_l_d24.coco_256x192": (27.53, 12.19),
    "tokenpose_l_d24.coco_384x288": (29.86, 24.01),
}


# The same table: heads, attention scale, groups x depth, head layers, sigma
PUBLISHED_FIELDS = {
    "tokenpose_t.coco_256x192": (16, "head", 1, 12, 2, 2),
    "tokenpose_s_v1.coco_256x192": (8, "model", 1, 12, 2, 2),
    "tokenpose_s_v2.coco_256x192": (8, "model", 1, 12, 2, 2),
    "tokenpose_b.coco_256x192": (8, "head", 1, 12, 2, 2),
    "tokenpose_l_d6.mpii_256x256": (8, "head", 3, 2, 1, 2),
    "tokenpose_l_d6.coco_256x192": (8, "head", 3, 2, 1, 2),
    "tokenpose_l_d24.coco_256x192": (12, "head", 3, 8, 1, 2),
    "tokenpose_l_d24.coco_384x288": (12, "head", 3, 8, 1, 3),
}


@pytest.fixture
def registered():
    """Names that the test registers are forgotten after it."""
    before = dict(architectures._parts)
    yield
    architectures._parts.clear()
    architectures._parts.update(before)


def on_meta(name: str) -> TokenPose:
    with torch.device("meta"):
        return TokenPose(find_tag(name)[2]).eval()


def test_list_of_models_holds_the_designed_names():
    assert set(NAMES) <= set(list_models())


def test_list_is_filtered_by_full_name_or_architecture():
    assert set(list_models("tokenpose_l_d24")) == {"tokenpose_l_d24.coco_256x192", "tokenpose_l_d24.coco_384x288"}
    assert list_models("*.mpii*") == ["tokenpose_l_d6.mpii_256x256"]
    assert list_models("tokenpose_s_v?.coco_256x192") == ["tokenpose_s_v1.coco_256x192", "tokenpose_s_v2.coco_256x192"]
    assert list_models("resnet*") == []


def test_pretrained_list_holds_only_what_ships():
    assert list_models(pretrained=True) == [name for name in list_models() if find_tag(name)[1].checkpoint]


@pytest.mark.parametrize("name", list_models())
def test_every_name_builds_and_gives_heatmaps_of_its_size(name):
    model = on_meta(name)
    spec = model.spec
    heatmaps = model(torch.empty(2, 3, *spec.image_size, device="meta"))
    size = [int(side) for side in re.fullmatch(r".*_(\d+)x(\d+)", name).groups()]
    assert spec.image_size == tuple(size)
    assert heatmaps.shape == (2, len(spec.skeleton), size[0] // 4, size[1] // 4)
    assert spec.skeleton.name == re.search(r"\.([a-z]+)_", name).group(1)
    assert ModelSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name):
    model = on_meta(name)
    table = model.spec.grid_size[0] * model.spec.grid_size[1] * 192  # published models store it, ours compute it
    stored = sum(parameter.numel() for parameter in model.parameters())
    assert round((stored + table) / 1e6, 2) == PUBLISHED[name][0]


@pytest.mark.parametrize("name", PUBLISHED)
def test_multiply_adds_are_the_published_less_the_rows_that_the_last_block_leaves_out(name):
    model = on_meta(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, *model.spec.image_size, device="meta"))
    visual, keypoints, width = model.spec.grid_size[0] * model.spec.grid_size[1], len(model.spec.skeleton), 192
    # of the visual rows of the last block: two attention products, the output projection, the MLP (ratio 3)
    left_out = visual * (2 * (visual + keypoints) * width + width * width + 6 * width * width)
    counted = counter.get_total_flops() / 2
    assert round((counted + left_out) / 1e9, 2) == PUBLISHED[name][1]
    assert counted / 1e9 < PUBLISHED[name][1]


@pytest.mark.parametrize("name", PUBLISHED_FIELDS)
def test_fields_that_no_shape_shows_are_the_published_ones(name):
    spec = find_tag(name)[2]
    found = spec.heads, spec.attention_scale, spec.groups, spec.depth, spec.head_layers, spec.sigma
    assert found == PUBLISHED_FIELDS[name]


@pytest.mark.parametrize("name", list_models())
def test_colors_and_padding_are_the_published_ones_and_sigma_is_3_cells_of_96x72_and_2_of_fewer(name):
    spec = find_tag(name)[2]
    assert (spec.mean, spec.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert spec.box_padding == 1.25
    assert spec.sigma == (3 if spec.output_size == (96, 72) else 2)


def test_small_models_share_every_size_but_the_patch():
    first, second = find_tag("tokenpose_s_v1.coco_256x192")[2], find_tag("tokenpose_s_v2.coco_256x192")[2]
    assert first.replace(patch_size=(2, 2), skeleton=second.skeleton, heatmap_activation="identity") == second


def test_batch_sizes_of_the_published_training():
    found = {name: published_batch_size(name) for name in list_models() if "lsp" not in name}
    assert found == {
        "tokenpose_t.coco_256x192": 128,
        "tokenpose_s_v1.coco_256x192": 128,
        "tokenpose_s_v2.coco_256x192": 48,
        "tokenpose_b.coco_256x192": 128,
        "tokenpose_l_d6.coco_256x192": None,
        "tokenpose_l_d6.mpii_256x256": 64,
        "tokenpose_l_d24.coco_256x192": 64,
        "tokenpose_l_d24.coco_384x288": 256,
    }


def test_name_without_a_tag_means_the_default_tag():
    name, _, spec = find_tag("tokenpose_b")
    assert name == f"tokenpose_b.{architectures.find('tokenpose_b').default_tag}"
    assert spec == find_tag(name)[2]


@pytest.mark.parametrize("name", list(architectures))
def test_default_tag_is_one_that_ships_if_any_does(name):
    architecture = architectures.find(name)
    shipping = [tag for tag, entry in architecture.tags.items() if entry.checkpoint]
    assert architecture.default_tag in (shipping or ["coco_256x192"])


def test_unknown_architecture_is_refused_with_the_closest():
    with pytest.raises(LookupError, match=r"no model named 'tokenpose_s'; did you mean .*tokenpose_s_v[12]"):
        find_tag("tokenpose_s")


def test_unknown_tag_is_refused_with_those_there_are():
    message = "tokenpose_s_v2 has no tag 'coco_384x288'; there are tokenpose_s_v2.coco_256x192"
    with pytest.raises(LookupError, match=message):
        find_tag("tokenpose_s_v2.coco_384x288")


@pytest.mark.usefixtures("registered")
def test_registered_model_is_found_and_listed():
    spec = ModelSpec(backbone="pixels", backbone_stride=1, patch_size=(16, 12), skeleton=Skeleton.from_count(3))
    register_model("mine", spec)
    assert find_tag("mine")[::2] == find_tag("mine.custom")[::2] == ("mine.custom", spec)
    assert list_models("mine") == ["mine.custom"]
    assert list_models("mine", pretrained=True) == []


@pytest.mark.usefixtures("registered")
def test_taken_and_dotted_model_names_are_refused():
    spec = ModelSpec(backbone="stem")
    with pytest.raises(ValueError, match="a model named 'tokenpose_b' is registered already"):
        register_model("tokenpose_b", spec)
    for name in ("my.model", "hub:model"):
        with pytest.raises(ValueError, match=rf"must have no dot .*, colon or slash; got '{name}'"):
            register_model(name, spec)


@pytest.mark.usefixtures("registered")
def test_models_with_shipped_weights_are_listed_as_pretrained():
    tags = {"a_1x1": Tag(), "b_1x1": Tag(checkpoint="b.safetensors", sha256="0")}
    architectures.add("shipping", Architecture(spec=ModelSpec(backbone="stem"), tags=tags, default_tag="b_1x1"))
    assert list_models("shipping", pretrained=True) == ["shipping.b_1x1"]
