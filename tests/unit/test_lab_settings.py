import unittest

from lab.settings import Addresses, SettingsError


class AddressesTest(unittest.TestCase):
    def test_defaults_are_valid(self):
        Addresses().validate()

    def test_all_problems_come_in_one_message(self):
        wrong = Addresses(api_network="10.77.0.1/24", underlay_network="8.8.8.0/24", external_network="8.8.0.0/16")
        with self.assertRaises(SettingsError) as raised:
            wrong.validate()
        text = str(raised.exception)
        for part in ("api_network: '10.77.0.1/24'", "underlay_network: 8.8.8.0/24 must be", "external_network: 8.8.0.0/16 overlaps"):
            self.assertIn(part, text)


if __name__ == "__main__":
    unittest.main()
