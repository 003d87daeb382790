"""A hit equals the model's answer."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.catalogue import Case
from tests.models import Charges, FunctionModel
from tests.properties.cases import chances, decorated, each_case, fewer_examples
from tests.properties.pictures import picture
from tests.properties.variants import some_mutants
from tests.servers import Server


@each_case
def test_a_hit_is_what_the_model_would_have_said(case: Case, server: Server) -> None:
    """The model numbers what it can tell apart, so any mistaken hit has a wrong number."""
    numbers: dict[Any, int] = {}

    def number(data: BaseModel) -> Charges:
        return Charges(charges=numbers.setdefault(picture(data), len(numbers)))

    model = FunctionModel(case.schema, Charges, number)
    with decorated(model, url=server.url, timeout=1.0) as decorator:

        @fewer_examples
        @given(st.lists(case.instances, min_size=1, max_size=3), chances)
        def predict(inputs: list[BaseModel], chance: random.Random) -> None:
            for data in [*inputs, *some_mutants(inputs[0], chance, 5), *inputs]:
                before = picture(data)
                assert decorator.predict(data) == number(data)
                assert picture(data) == before

        predict()
        assert decorator.stats().hits
