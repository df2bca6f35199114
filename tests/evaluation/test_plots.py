"""What the plots hold, read back from matplotlib."""

from matplotlib.figure import Figure

from dalle_jax.evaluation import plots


def test_losses_are_drawn_where_the_last_row_is_of_something_else():
  rows = [{"step": step, "loss": 3.0 - step, "loss_text": 2.0} for step in (1, 2)] + [{"step": 2, "valid_psnr": 20.0}]
  axes = Figure().add_subplot()
  plots.loss_curves(rows)(axes, plots.PAPERS[0])
  assert [line.get_label() for line in axes.lines] == ["loss", "loss text"]
  assert axes.lines[0].get_xydata().tolist() == [[1, 2.0], [2, 1.0]]
