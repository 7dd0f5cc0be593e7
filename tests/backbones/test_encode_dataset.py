import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from workbench.backbones import load_backbone


class Labelled(Dataset):
    def __init__(self, number: int, *shape: int) -> None:
        self.images = torch.randn(number, *shape, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], index


def test_features_of_all_items_come_in_order_whatever_the_batch_size() -> None:
    tower, data = load_backbone("test_vit.r160_in1k", "random", input_size=32), Labelled(7, 3, 32, 32)
    steps = []
    state = torch.get_rng_state()
    features = tower.encode_dataset(data, batch_size=3, on_step=lambda step, parts: steps.append((step, dict(parts))))
    assert torch.equal(torch.get_rng_state(), state)
    assert features.shape == (7, tower.width) and features.dtype == np.float32
    np.testing.assert_allclose(features, tower.encode(data.images).numpy(), atol=1e-5)
    assert steps == [(i, {"done": done, "total": 7}) for i, done in enumerate((3, 6, 7))]
    np.testing.assert_allclose(tower.encode_dataset(data), features, atol=1e-5)


@pytest.mark.parametrize("workers", [0, 1])
def test_items_may_be_images_alone_and_come_from_workers(workers: int) -> None:
    tower, data = load_backbone("test_vit.r160_in1k", "random", input_size=32), Labelled(4, 3, 32, 32)
    bare = TensorDataset(data.images)
    np.testing.assert_allclose(
        tower.encode_dataset(bare, workers=workers), tower.encode_dataset(data), atol=1e-5
    )


def test_several_views_per_image_are_refused() -> None:
    tower = load_backbone("test_vit.r160_in1k", "random", input_size=32)
    with pytest.raises(ValueError, match="one view per image"):
        tower.encode_dataset(Labelled(2, 5, 3, 32, 32))


def test_an_empty_data_set_gives_no_features() -> None:
    tower = load_backbone("test_vit.r160_in1k", "random", input_size=32)
    assert tower.encode_dataset(Labelled(0, 3, 32, 32)).shape == (0, tower.width)


def test_features_are_float32_under_autocast() -> None:
    for name, size in (("test_vit.r160_in1k", 160), ("resnet50_clip", 32)):
        tower = load_backbone(name, "random", input_size=size)
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
            assert tower.encode(torch.zeros(1, 3, size, size)).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_features_on_a_gpu_equal_those_on_the_cpu() -> None:
    tower, data = load_backbone("test_vit.r160_in1k", "random", input_size=32), Labelled(5, 3, 32, 32)
    on_cpu = tower.encode_dataset(data)
    np.testing.assert_allclose(tower.to("cuda").encode_dataset(data), on_cpu, atol=1e-3)
