"""Which part answers: words of any script find it, and large manuals cost no time."""

import random
import time
from statistics import median

import numpy as np
import pytest

from d2l.parts.router import Router, drop_stop_words

#: The same four parts in each language: filter, pressure, light, key; and a question to each.
TEXTS: dict[str, tuple[list[str], list[str]]] = {
    "Chinese": (
        [
            "每十四天必须清洗一次过滤器，并检查密封圈是否损坏。",
            "打开铜阀门之前，压力不得低于三巴，否则水泵会停止。",
            "草地上的灯在晚上九点四十分点亮，天亮时熄灭。",
            "塔楼的钥匙由管理员保管，访客需要提前一天登记。",
        ],
        ["多久清洗过滤器？", "水泵为什么会停止？", "灯几点点亮？", "钥匙在谁那里保管？"],
    ),
    "Japanese": (
        [
            "フィルターは十四日ごとに洗い、パッキンの傷を確認してください。",
            "銅のバルブを開く前に、圧力が三バールを下回るとポンプが停止します。",
            "草原のランプは夜九時四十分に点灯し、夜明けに消えます。",
            "塔の鍵は管理人が保管しており、見学者は前日までに登録が必要です。",
        ],
        [
            "フィルターはどのくらいの頻度で洗いますか。",
            "ポンプが停止するのはいつですか。",
            "ランプは何時に点灯しますか。",
            "鍵は誰が保管していますか。",
        ],
    ),
    "Russian": (
        [
            "Фильтр промывают каждые четырнадцать дней и проверяют прокладку.",
            "Насос останавливается, если давление падает ниже трёх бар.",
            "Фонарь на лугу зажигают вечером и гасят на рассвете.",
            "Ключ от башни хранится у смотрителя, посетители записываются заранее.",
        ],
        [
            "Как часто нужно промывать фильтры?",
            "Почему насосы остановились?",
            "Когда зажигается фонарь?",
            "У кого хранятся ключи от башен?",
        ],
    ),
    "Arabic": (
        [
            "يغسل المرشح كل أربعة عشر يوما ويفحص ختم الغطاء.",
            "تتوقف المضخة إذا انخفض الضغط عن ثلاثة بار.",
            "يضاء المصباح في المرج مساء ويطفأ عند الفجر.",
            "مفتاح البرج محفوظ لدى الحارس وعلى الزوار التسجيل مسبقا.",
        ],
        ["كم مرة يغسل المرشح؟", "لماذا توقفت المضخة؟", "متى يضاء المصباح؟", "أين مفتاح البرج؟"],
    ),
    "English": (
        [
            "The filter is rinsed every 14 days, and its seal inspected.",
            "Pumping stops as soon as the pressure falls below 3 bar.",
            "Lanterns in the meadow are lit at 21:40. How to put them out is said elsewhere.",
            "The keeper holds the key of the tower. Visitors register a day before.",
        ],
        [
            "How often do I have to rinse the filters?",
            "Why does the pump stop?",
            "When is the lantern lit?",
            "How do I get the keys to the towers?",
        ],
    ),
}


@pytest.mark.parametrize("language", TEXTS)
def test_questions_in_a_users_words_find_their_part_in_any_script(language: str) -> None:
    texts, questions = TEXTS[language]
    everything = [text for others, _ in TEXTS.values() for text in others]
    first, router = everything.index(texts[0]), Router(everything)
    found = [int(np.argmax(router.score(question))) - first for question in questions]
    assert found == list(range(len(texts)))


def test_scores_are_the_same_in_every_router_and_zero_where_nothing_is_shared() -> None:
    texts, (question, *_) = TEXTS["English"]
    scores = Router(texts).score(question)
    assert np.array_equal(scores, Router(texts).score(question))
    assert np.array_equal(scores[::-1], Router(texts[::-1]).score(question))
    assert scores.max() <= Router(texts).best(question)
    assert not Router(texts).score("Zugzwang?").any()
    assert list(Router([]).score(question)) == []


@pytest.mark.parametrize("question", ["", " ", "?!", "…—", "\ud800", "\x00"])
def test_a_question_without_words_scores_nothing(question: str) -> None:
    texts, _ = TEXTS["English"]
    assert not Router([*texts, "", "?!"]).score(question).any()


@pytest.mark.parametrize(
    ("question", "left"),
    [
        ("How do I rinse the filter?", "rinse filter"),
        ("Wie oft wird der Filter gespült?", "oft Filter gespült"),
        ("How do you do?", "How do you do?"),  # has nothing else
        ("", ""),
    ],
)
def test_stop_words_of_the_questions_language_are_left_out(question: str, left: str) -> None:
    assert drop_stop_words(question) == left


@pytest.mark.slow
def test_ten_thousand_parts_are_searched_in_fifty_milliseconds() -> None:
    draw = random.Random(3)
    letters = "abcdefghiklmnoprstuvw"
    words = ["".join(draw.choices(letters, k=draw.randint(3, 9))) for _ in range(4000)]
    texts = [" ".join(draw.choices(words, k=60)) for _ in range(10_000)]
    router, seconds = Router(texts), []
    for _ in range(20):
        question = f"How often is the {' '.join(draw.choices(words, k=8))}?"
        start = time.process_time()
        router.score(question)
        seconds.append(time.process_time() - start)
    assert median(seconds) <= 0.05
