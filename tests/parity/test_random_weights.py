"""The helper of the parity tests finds what a comparison would not see."""

import official
import pytest
import random_weights

pytestmark = pytest.mark.parity


def small(seed):
  torch = official.load("torch")
  net = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(32, 5)
  ).eval()
  random_weights.fill(net, seed)
  picture = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))

  def outputs():
    with torch.no_grad():
      return net(picture)

  return net, outputs


def test_tensors_that_all_matter_are_none_of_them_idle():
  net, outputs = small(0)
  kept = {name: tensor.clone() for name, tensor in net.state_dict().items()}
  assert random_weights.idle(net.state_dict(), outputs, 1e-4) == []
  assert all((tensor == kept[name]).all() for name, tensor in net.state_dict().items())


def test_a_tensor_that_does_not_matter_is_named():
  net, outputs = small(0)
  net[1].running_mean.fill_(0.5)
  net[4].bias.data.zero_()
  found = random_weights.idle(net.state_dict(), outputs, 1e-4)
  assert found == [
    "1.running_mean permuted moves the outputs by 0.0",
    "4.bias zeroed moves the outputs by 0.0",
    "4.bias permuted moves the outputs by 0.0",
  ]


def test_the_error_is_that_of_the_worst_output():
  assert random_weights.error([[1.0, 2.0], [4.0]], [[1.0, 2.0], [5.0]]) == 0.2


def test_torchvision_imports_and_its_operators_are_not_called():
  torchvision = official.load("torchvision")
  torch = official.load("torch")
  assert torchvision.models.inception.InceptionA(8, 8)
  with pytest.raises(RuntimeError):
    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
