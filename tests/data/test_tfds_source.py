import io

import pytest
import tensorflow_datasets as tfds
from PIL import Image

from dalle_jax.data import tfds_features
from dalle_jax.data.source import Dropped
from dalle_jax.data.tfds_source import open_tfds
from dalle_jax.errors import UserError

TEXT, IMAGE = tfds.features.Text(), tfds.features.Image()
CHUNK_HEADER = 40  # bytes; the size of what follows is in bytes 8 to 15


def png(i):
  file = io.BytesIO()
  Image.new("RGB", (6, 5), (i, 0, 0)).save(file, "PNG")
  return file.getvalue()


class Captioned(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  VERSION = tfds.core.Version("1.0.0")
  name = "my_pictures"

  def _info(self):
    features = tfds.features.FeaturesDict(
      {
        "image": tfds.features.Image(),
        "image/filename": TEXT,
        "captions": tfds.features.Sequence({"id": TEXT, "text": TEXT}),
        "label": tfds.features.ClassLabel(num_classes=3),
      }
    )
    return tfds.core.DatasetInfo(builder=self, description="for tests", features=features)

  def _split_generators(self, dl_manager):
    return {"validation": self._generate_examples(2), "train": self._generate_examples(4)}

  def _generate_examples(self, number):
    for i in range(number):
      texts = [{"id": "a", "text": f"picture {i} é"}, {"id": "b", "text": "again"}][: 1 + i % 2]
      yield i, {"image": png(i), "image/filename": f"{i}.png", "captions": texts, "label": 0}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tfds")
  tfds.disable_progress_bar()
  Captioned(data_dir=folder, file_format="array_record").download_and_prepare()
  return folder


def test_a_prepared_data_set_is_read_with_its_pictures_as_bytes_and_all_its_captions(data_dir):
  source = open_tfds("my_pictures", data_dir=data_dir)
  assert (source.name, source.splits) == ("my_pictures", ("train", "valid"))
  assert (source.image, source.text) == (("image",), ("captions", "text"))
  found = list(source.examples("train"))
  assert source.count("train") == len(found) == 4
  assert sorted(each.image for each in found) == sorted(map(png, range(4)))
  by_image = {each.image: each.captions for each in found}
  assert by_image[png(1)] == ("picture 1 é", "again")
  assert by_image[png(2)] == ("picture 2 é",)
  assert len({each.key for each in found}) == 4
  assert len(list(source.examples("valid"))) == 2


def test_a_text_feature_can_be_named(data_dir):
  source = open_tfds("my_pictures", data_dir=data_dir, text_feature="image/filename")
  assert {each.captions for each in source.examples("valid")} == {("0.png",), ("1.png",)}


def test_a_damaged_record_is_told_and_the_rest_read(data_dir, tmp_path):
  folder = tmp_path / "my_pictures/1.0.0"
  folder.mkdir(parents=True)
  for file in (data_dir / "my_pictures/1.0.0").iterdir():
    (folder / file.name).write_bytes(file.read_bytes())
  [records] = folder.glob("*train*")
  content = bytearray(records.read_bytes())
  third = 64  # a file begins with a header of 64 bytes, then a record is a chunk
  for _ in range(2):
    third += CHUNK_HEADER + int.from_bytes(content[third + 8 : third + 16], "little")
  content[third + 60 : third + 68] = b"????????"
  records.write_bytes(content)
  found = list(open_tfds("my_pictures", data_dir=tmp_path).examples("train"))
  assert [each.reason for each in found if isinstance(each, Dropped)] == ["unreadable record"]
  assert len(found) == 4


@pytest.mark.parametrize(
  ("features", "asked", "says"),
  [
    ({"image": IMAGE, "label": tfds.features.ClassLabel(num_classes=2)}, {}, "has no text feature"),
    ({"text": TEXT}, {}, "has no image feature"),
    ({"frames": tfds.features.Sequence(IMAGE), "text": TEXT}, {}, "has no image feature"),
    ({"a": IMAGE, "b": IMAGE, "text": TEXT}, {}, "several image features, a, b: name one with --image-feature"),
    ({"image": IMAGE, "en": TEXT, "de": TEXT}, {}, "several text features"),
    ({"image": IMAGE, "caption": TEXT}, {"text": "captoin"}, "did you mean 'caption'?"),
    ({"image": IMAGE, "caption": TEXT}, {"image": "caption"}, "there is image"),
  ],
)
def test_features_that_do_not_fit_are_named_in_one_line(features, asked, says):
  with pytest.raises(UserError) as error:
    tfds_features.find("set", tfds.features.FeaturesDict(features), asked.get("image"), asked.get("text"))
  message = str(error.value)
  assert says in message
  assert len(message) <= 200


@pytest.mark.parametrize(
  ("features", "paths"),
  [
    ({"image": IMAGE, "caption": TEXT, "url": TEXT}, (("image",), ("caption",))),
    ({"picture": IMAGE, "en": TEXT}, (("picture",), ("en",))),
    ({"a": {"jpg": IMAGE}, "b": {"texts": tfds.features.Sequence(TEXT)}}, (("a", "jpg"), ("b", "texts"))),
  ],
)
def test_features_are_found_by_type_and_captions_by_their_name_among_texts(features, paths):
  assert tfds_features.find("set", tfds.features.FeaturesDict(features), None, None) == paths


@pytest.mark.parametrize(
  ("name", "says"),
  [
    ("coco_captions", "needs TensorFlow: `pip install dalle-jax[tensorflow]`"),
    ("mnist", "is not prepared in"),
    ("coco_caption", "did you mean 'coco_captions'?"),
    ("my_pictuers", "did you mean 'my_pictures'?"),
  ],
)
def test_a_name_that_cannot_be_read_is_one_line_that_says_what_to_do(data_dir, capfd, name, says):
  with pytest.raises(UserError) as error:
    open_tfds(name, data_dir=data_dir)
  message = str(error.value).replace(str(data_dir), "DATA_DIR")
  assert says in message
  assert "DATA_DIR" in message
  assert "\n" not in message
  assert len(message) <= 200
  assert capfd.readouterr() == ("", "")


def test_files_that_only_tensorflow_reads_are_named(data_dir, tmp_path):
  folder = tmp_path / "my_pictures/1.0.0"
  folder.mkdir(parents=True)
  for name in ("features.json", "dataset_info.json"):
    content = (data_dir / "my_pictures/1.0.0" / name).read_text()
    (folder / name).write_text(content.replace("array_record", "tfrecord"))
  with pytest.raises(UserError, match="is tfrecord, which only TensorFlow reads"):
    open_tfds("my_pictures", data_dir=tmp_path)
