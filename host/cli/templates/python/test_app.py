import unittest

from taskhost import Context, Retry
from taskhost.testing import Ended, FakeHost

from app import add, letters


class Tasks(unittest.TestCase):
    def test_numbers_are_added(self):
        self.assertEqual(add(2, 2), 4)

    def test_letters_of_all_words_count(self):
        with FakeHost() as host:
            self.assertEqual(host.call("{{name}}.letters", ["four", "три"]), 7)
            self.assertEqual(len(host.states), 2, "it says after each word how far it is")

    def test_without_words_it_asks_to_be_run_again(self):
        with self.assertRaises(Retry):
            letters(Context(), [])

    def test_wrong_arguments_are_refused(self):
        with FakeHost() as host, self.assertRaisesRegex(Ended, "TypeError.*argument 'y': expected float, got str"):
            host.call(add, 2, "2")


if __name__ == "__main__":
    unittest.main()
